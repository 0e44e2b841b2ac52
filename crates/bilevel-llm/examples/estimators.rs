//! How near is each method's estimate of the gradient in the weights to the truth, which is what retrained models say?
//!
//! `cargo run --release -p bilevel-llm --example estimators -- FOLDER [FIGURE.svg]`
//!
//! Data is the built-in demonstration's: `shopping` (the target's kind), `prices` (a part of it), `guesses` (wrong answers). The
//! truth at equal weights is the central difference of the test loss of models that were retrained with each source's share moved
//! by ± 0.4 of what it can have, in the mean of eight seeds: smaller differences drown in the chaos of training. An estimate is the
//! mean of a method's hypergradients over a search in which the weights are held. Both are compared by their cosine on
//! the plane of weights that sum to one. Results stand in FOLDER/estimators.json; the runs are kept, so that a call that was
//! interrupted goes on.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use bilevel_llm::{Recipe, RunResult, Silent, TraceRow, demo::Demo, result::Phase, reweight};
use plotters::prelude::*;
use serde::Serialize;

type Outcome<T> = Result<T, Box<dyn Error>>;

const SOURCES: [&str; 3] = ["guesses", "prices", "shopping"];
/// How far a perturbed mixture goes from equal weights to a corner.
const SHIFT: f64 = 0.4;
const TRUTH_SEEDS: u64 = 8;
const ESTIMATE_SEEDS: u64 = 4;
/// Units of a run.
const HORIZONS: [u64; 3] = [60_000, 120_000, 240_000];
/// Layers, width, heads, width of the feed-forward part.
const SIZES: [[usize; 4]; 3] = [[2, 32, 2, 88], [2, 48, 4, 128], [3, 80, 4, 216]];

/// Label, and what the recipe says of the method.
const ESTIMATORS: [(&str, &str); 7] = [
    ("alignment", "methods = [\"alignment\"]"),
    ("FastMix (head)", "methods = [\"fastmix\"]"),
    ("HG-MS, 1 CG step", "methods = [\"hg-ms\"]\ncg_steps = 1"),
    ("HG-MS, 2 CG steps", "methods = [\"hg-ms\"]\ncg_steps = 2"),
    ("HG-MS, 5 CG steps", "methods = [\"hg-ms\"]\ncg_steps = 5"),
    ("F2BA", "methods = [\"f2ba\"]"),
    ("ScaleBiO", "methods = [\"scalebio\"]"),
];

#[derive(Debug, Serialize)]
struct Cell {
    start: &'static str,
    parameters: u64,
    units: u64,
    /// Training steps of a retraining.
    steps: u64,
    /// d test loss / d weight, without its mean: its mean over seeds.
    truth: [f64; 3],
    /// Cosine of the means of the two halves of the truth's seeds: what noise leaves.
    ceiling: f64,
    estimators: Vec<Quality>,
}

#[derive(Debug, Serialize)]
struct Quality {
    estimator: &'static str,
    /// Mean over seeds, of unit length.
    direction: [f64; 3],
    /// Of the mean over seeds with the truth.
    cosine: f64,
    /// Of each seed's with the truth.
    cosines: Vec<f64>,
}

/// Where runs begin.
enum Start {
    Scratch([usize; 4]),
    Pretrained(PathBuf),
}

struct Place<'a> {
    folder: &'a Path,
    data: &'a Path,
    start: &'a Start,
    units: u64,
}

impl Place<'_> {
    /// A run, or what is kept of it.
    fn run(&self, name: &str, seeds: u64, reweighting: &str) -> Outcome<(RunResult, PathBuf)> {
        let out = self.folder.join(name);
        let seeds: Vec<String> = (1..=seeds).map(|seed| seed.to_string()).collect();
        let model = match self.start {
            Start::Scratch([layers, width, heads, ffn]) => format!(
                "layers = {layers}\nwidth = {width}\nheads = {heads}\nffn = {ffn}\ncontext = 256\n[tokenizer]\nkind = \"bpe\"\nvocabulary = 512\n"
            ),
            Start::Pretrained(folder) => {
                let path = folder.canonicalize()?.display().to_string();
                format!("checkpoint = {}\n", toml::Value::from(path))
            }
        };
        // a model that is trained already wants smaller steps
        let lr = if matches!(self.start, Start::Scratch(_)) { 5e-3 } else { 2e-3 };
        let sources =
            SOURCES.map(|name| format!("[[source]]\nname = \"{name}\"\npath = \"{name}.jsonl\"\n")).concat();
        let text = format!(
            "[run]\nseeds = [{}]\nbudget = {}\nevaluations = 1\n[model]\n{model}{sources}[validation]\npath = \"validation.jsonl\"\n[test]\npath = \"test.jsonl\"\n[train]\nlr = {lr}\nwarmup = 10\nbatch = 3\n[evaluate]\nsource_examples = 0\n[reweight]\ncycle = 5\ncontinuations = 1\nstep = 1e-9\nvalidation_batch = 24\nsource_batch = 8\ncurvature_batch = 4\n{reweighting}\n",
            seeds.join(", "),
            self.units,
        );
        let mut recipe = Recipe::parse(&text, self.data)?;
        recipe.run.out.clone_from(&out);
        Ok((reweight(&recipe, &mut Silent, &AtomicBool::new(false))?, out))
    }

    /// Test losses of models that were trained with these weights, one for each seed; and their training steps.
    fn retrained(&self, name: &str, p: [f64; 3]) -> Outcome<(Vec<f64>, u64)> {
        let given: Vec<String> = SOURCES.iter().zip(p).map(|(name, p)| format!("{name} = {p:?}")).collect();
        let text = format!("methods = [\"given\"]\ngiven = {{ {} }}", given.join(", "));
        let (result, _) = self.run(name, TRUTH_SEEDS, &text)?;
        let seeds = &result.methods[0].seeds;
        Ok((seeds.iter().map(|seed| seed.test_loss).collect(), seeds[0].retraining.steps))
    }

    /// The derivative of the test loss in the weights for each seed, and training steps.
    fn truth(&self) -> Outcome<(Vec<[f64; 3]>, u64)> {
        let mut slopes = vec![[0.0; 3]; TRUTH_SEEDS as usize];
        let mut steps = 0;
        for i in 0..3 {
            let mixture = |sign: f64| {
                let corner = |l: usize| if l == i { 1.0 } else { 0.0 };
                // the last is what the others leave, so that the sum is one to the last bit
                let p: Vec<f64> =
                    (0..2).map(|l| 1.0 / 3.0 + sign * SHIFT * (corner(l) - 1.0 / 3.0)).collect();
                [p[0], p[1], 1.0 - p[0] - p[1]]
            };
            let (more, count) = self.retrained(&format!("more-{}", SOURCES[i]), mixture(1.0))?;
            let (less, _) = self.retrained(&format!("less-{}", SOURCES[i]), mixture(-1.0))?;
            for ((slope, more), less) in slopes.iter_mut().zip(more).zip(less) {
                slope[i] = (more - less) / (2.0 * SHIFT);
            }
            steps = count;
        }
        Ok((slopes, steps))
    }

    /// A method's mean hypergradient over its search, for each seed.
    fn estimates(&self, number: usize, label: &str, reweighting: &str) -> Outcome<Vec<[f64; 3]>> {
        let (result, out) = self.run(&format!("estimate-{number}"), ESTIMATE_SEEDS, reweighting)?;
        let trace = fs::read_to_string(out.join("trace.jsonl"))?;
        let mut of_seeds: BTreeMap<u64, Vec<Vec<f64>>> = BTreeMap::new();
        for line in trace.lines() {
            let row: TraceRow = serde_json::from_str(line)?;
            if row.phase == Phase::Search {
                of_seeds.entry(row.seed).or_default().extend(row.certificate.map(|c| c.gradient));
            }
        }
        of_seeds
            .into_iter()
            .zip(&result.methods[0].seeds)
            .map(|((_, cycles), of_seed)| {
                if cycles.is_empty() {
                    // no certificates: the steps of the log-weights, downhill, add up in the weights; the published ones are
                    // so small that these stay within a few hundredths of where they were
                    let weights = &of_seed.weights;
                    return Ok(centred(std::array::from_fn(|i| -weights[i].ln())));
                }
                if cycles.iter().any(|cycle| cycle.len() != 3) {
                    return Err(format!("{label}: a certificate without a gradient").into());
                }
                let sum = |i: usize| cycles.iter().map(|cycle| cycle[i]).sum::<f64>() / cycles.len() as f64;
                Ok(centred(std::array::from_fn(sum)))
            })
            .collect()
    }
}

fn centred(v: [f64; 3]) -> [f64; 3] {
    let mean = v.iter().sum::<f64>() / 3.0;
    v.map(|a| a - mean)
}
fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
fn cosine(a: [f64; 3], b: [f64; 3]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
fn mean(list: &[[f64; 3]]) -> [f64; 3] {
    centred(std::array::from_fn(|i| list.iter().map(|v| v[i]).sum::<f64>() / list.len() as f64))
}

fn cell(place: &Place, name: &'static str, parameters: u64) -> Outcome<Cell> {
    let (slopes, steps) = place.truth()?;
    let truth = mean(&slopes);
    let (first, second) = slopes.split_at(slopes.len() / 2);
    let mut estimators = Vec::new();
    for (number, (label, reweighting)) in ESTIMATORS.into_iter().enumerate() {
        let estimates = place.estimates(number, label, reweighting)?;
        let direction = mean(&estimates);
        let length = dot(direction, direction).sqrt();
        let quality = Quality {
            estimator: label,
            direction: direction.map(|a| a / length),
            cosine: cosine(direction, truth),
            cosines: estimates.iter().map(|&e| cosine(e, truth)).collect(),
        };
        println!("  {label}: {:+.3}", quality.cosine);
        estimators.push(quality);
    }
    let ceiling = cosine(mean(first), mean(second));
    Ok(Cell { start: name, parameters, units: place.units, steps, truth, ceiling, estimators })
}

/// A panel for each size and start: the cosine against the horizon, a line for each estimator.
fn draw(cells: &[Cell], path: &Path) -> Outcome<()> {
    let page = SVGBackend::new(path, (960, 640)).into_drawing_area();
    page.fill(&WHITE)?;
    let (title, rest) = page.split_vertically(34);
    title.titled("Cosine of each method's estimate with the retrained truth", ("sans-serif", 18))?;
    let (panels, key) = rest.split_vertically(540);
    let mut groups: Vec<(&str, u64)> = cells.iter().map(|c| (c.start, c.parameters)).collect();
    groups.dedup();
    let all = cells.iter().flat_map(|c| c.estimators.iter().map(|e| e.cosine).chain([c.ceiling]));
    let lowest = all.fold(1.0, f64::min);
    // the same axis in every panel
    let lowest = (20.0 * lowest).floor() / 20.0;
    let panels = panels.split_evenly((2, SIZES.len()));
    let mut places: Vec<u64> = groups.iter().map(|(_, parameters)| *parameters).collect();
    places.sort_unstable();
    places.dedup();
    for (start, parameters) in groups {
        let column = places.iter().position(|p| *p == parameters).expect("a size of the groups");
        let panel = &panels[if start == "from scratch" { column } else { SIZES.len() + column }];
        let mine: Vec<&Cell> =
            cells.iter().filter(|c| (c.start, c.parameters) == (start, parameters)).collect();
        let most = mine.iter().map(|c| c.steps).max().unwrap_or(1) as f64;
        let mut chart = ChartBuilder::on(panel)
            .caption(format!("{start}, {} k parameters", parameters / 1000), ("sans-serif", 14))
            .margin(8)
            .x_label_area_size(32)
            .y_label_area_size(36)
            .build_cartesian_2d(0.0..1.05 * most, lowest..1.0 + 0.05 * (1.0 - lowest))?;
        chart.configure_mesh().x_desc("training steps").light_line_style(WHITE).x_labels(5).draw()?;
        for number in 0..ESTIMATORS.len() {
            let colour = Palette99::pick(number).stroke_width(2);
            let points: Vec<(f64, f64)> =
                mine.iter().map(|c| (c.steps as f64, c.estimators[number].cosine)).collect();
            chart.draw_series(LineSeries::new(points.clone(), colour))?;
            chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, colour.filled())))?;
        }
        let ceiling: Vec<(f64, f64)> = mine.iter().map(|c| (c.steps as f64, c.ceiling)).collect();
        chart.draw_series(DashedLineSeries::new(ceiling, 4, 4, BLACK.stroke_width(1)))?;
    }
    for (number, (label, _)) in (0..).zip(ESTIMATORS) {
        let (x, y) = (20 + 235 * (number % 4), 14 + 24 * (number / 4));
        key.draw(&Circle::new((x, y), 5, Palette99::pick(number as usize).filled()))?;
        key.draw(&Text::new((*label).to_owned(), (x + 12, y - 7), ("sans-serif", 14)))?;
    }
    key.draw(&Text::new(
        "dashed: one half of the truth with the other",
        (20 + 235 * 3 + 12, 31),
        ("sans-serif", 12),
    ))?;
    page.present()?;
    Ok(())
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let folder = arguments.next().ok_or("give a folder")?;
    let figure = arguments.next();
    let data = folder.join("data");
    Demo::default().write(&data)?;
    let data = data.canonicalize()?;
    let mut cells = Vec::new();
    for (number, sizes) in SIZES.into_iter().enumerate() {
        let scratch = Start::Scratch(sizes);
        let longest = HORIZONS[HORIZONS.len() - 1];
        let first = folder.join(format!("size-{number}"));
        let place = Place { folder: &first, data: &data, start: &scratch, units: longest };
        let (trained, out) = place.run("pretraining", 1, "methods = [\"uniform\"]")?;
        let pretrained = Start::Pretrained(out.join("model"));
        for (name, start) in [("from scratch", &scratch), ("pretrained", &pretrained)] {
            for units in HORIZONS {
                let inner = first.join(format!("{}-{units}", name.replace(' ', "-")));
                let place = Place { folder: &inner, data: &data, start, units };
                println!("{name}, {} parameters, {units} units", trained.model.parameters);
                cells.push(cell(&place, name, trained.model.parameters)?);
                // panels: sizes side by side, the two starts one above the other
                cells.sort_by_key(|c| (c.start != "from scratch", c.parameters, c.units));
                fs::write(folder.join("estimators.json"), serde_json::to_string_pretty(&cells)? + "\n")?;
                if let Some(path) = &figure {
                    draw(&cells, path)?;
                }
            }
        }
    }
    Ok(())
}
