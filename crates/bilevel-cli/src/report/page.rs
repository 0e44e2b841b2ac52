//! The page round charts and tables: one file, nothing loaded from elsewhere, no scripts.

use std::fmt::Write;

/// Text for HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A page in the making.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    body: String,
    sections: Vec<(String, String)>,
}

impl Page {
    /// A page with this title; `lead` is HTML that stands under it.
    pub fn new(title: &str, lead: &str) -> Self {
        let body = format!("<header><h1>{}</h1>\n{lead}</header>\n", escape(title));
        Self { title: title.into(), body, sections: Vec::new() }
    }
    /// Adds a section; `content` is HTML.
    pub fn section(&mut self, id: &str, heading: &str, content: &str) {
        self.sections.push((id.into(), heading.into()));
        let _ = writeln!(self.body, "<section id=\"{id}\"><h2>{}</h2>\n{content}</section>", escape(heading));
    }
    /// The whole page.
    pub fn html(&self) -> String {
        let links: Vec<String> = self
            .sections
            .iter()
            .map(|(id, heading)| format!("<a href=\"#{id}\">{}</a>", escape(heading)))
            .collect();
        let navigation = format!("</header>\n<nav>{}</nav>\n", links.join(" "));
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{}</body>\n</html>\n",
            escape(&self.title),
            self.body.replacen("</header>\n", &navigation, 1)
        )
    }
}

/// A paragraph of plain text.
pub fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

/// A chart with its caption in plain text.
pub fn figure(svg: &str, caption: &str) -> String {
    format!("<figure>\n{svg}<figcaption>{}</figcaption></figure>\n", escape(caption))
}

/// Charts side by side where there is room.
pub fn pair(figures: &[String]) -> String {
    format!("<div class=\"pair\">\n{}</div>\n", figures.concat())
}

/// A cell of a table.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Words, at the left.
    Text(String),
    /// A number, at the right, digits under digits.
    Number(String),
    /// HTML, at the left.
    Html(String),
}

/// A table; the first row of headings, then cells. Headings of number columns stand at the right.
pub fn table(headings: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut html = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
    for (column, heading) in headings.iter().enumerate() {
        let is_number = rows.first().is_some_and(|row| matches!(row.get(column), Some(Cell::Number(_))));
        let class = if is_number { " class=\"n\"" } else { "" };
        let _ = write!(html, "<th scope=\"col\"{class}>{}</th>", escape(heading));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = match cell {
                Cell::Text(text) if text.chars().count() > 60 => {
                    write!(html, "<td class=\"wrap\">{}</td>", escape(text))
                }
                Cell::Text(text) => write!(html, "<td>{}</td>", escape(text)),
                Cell::Number(text) => write!(html, "<td class=\"n\">{}</td>", escape(text)),
                Cell::Html(inner) => write!(html, "<td>{inner}</td>"),
            };
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

/// Text as it is, folded away until asked for (and shown on paper).
pub fn folded(summary: &str, text: &str) -> String {
    format!("<details><summary>{}</summary><pre>{}</pre></details>\n", escape(summary), escape(text))
}

/// The colours are those of Okabe and Ito and of Tol, darkened for white paper and lightened for a dark screen, so that
/// each has a contrast of at least 3 to its ground and the usual kinds of colour blindness tell them apart.
const STYLE: &str = include_str!("style.css");
