//! Chat templates: how a model wants messages to be written as one text.

use minijinja::{Environment, Error, ErrorKind, context, syntax::SyntaxConfig, value::Serde};
use serde::{Deserialize, Serialize};

use super::PretrainedError;

/// Instructions that a template may take; published ones take some thousands a message.
const MOST_WORK: u64 = 10_000_000;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of this role.
    pub fn new(role: &str, content: &str) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A model's chat template, in the Jinja dialect that `transformers` renders.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatTemplate {
    /// The template.
    pub source: String,
    /// The text of the token that begins a sequence, where there is one.
    pub begin: Option<String>,
    /// The text of the token that ends a sequence, where there is one.
    pub end: Option<String>,
}

impl ChatTemplate {
    /// The conversation as one text; with `is_answer_due` it ends where the assistant's next answer begins.
    ///
    /// Blocks take the line break after them and the indentation before them, as in `transformers`; Python's methods of
    /// texts and lists, `raise_exception` and `break` exist; the clock does not, so that a text is a function of its
    /// messages.
    ///
    /// # Errors
    /// When the template is not Jinja, refuses the messages, or does not end.
    pub fn render(&self, messages: &[Message], is_answer_due: bool) -> Result<String, PretrainedError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| refused(&e, "report this: the syntax is fixed"))?);
        environment.set_fuel(Some(MOST_WORK));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |detail: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, detail))
        });
        let template = environment.template_from_named_str("chat template", &self.source).map_err(|e| {
            refused(&e, "the model's template is broken: use the plain prompt, or another model file")
        })?;
        template
            .render(context! {
                messages => Serde(messages),
                add_generation_prompt => is_answer_due,
                bos_token => Serde(&self.begin),
                eos_token => Serde(&self.end),
            })
            .map_err(|e| {
                refused(&e, "look at the order and the roles of the messages, or use the plain prompt")
            })
    }
}

/// The error with its causes.
fn refused(error: &Error, remedy: &str) -> PretrainedError {
    let mut detail = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        detail = format!("{detail}: {error}");
        cause = error.source();
    }
    PretrainedError::Template { detail, remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate { source: source.into(), begin: Some("<s>".into()), end: Some("</s>".into()) }
    }

    fn talk() -> Vec<Message> {
        vec![
            Message::new("user", " Hello. "),
            Message::new("assistant", "Yes?"),
            Message::new("user", "Bye."),
        ]
    }

    #[test]
    fn a_conversation_is_written_as_the_template_says() {
        let t = template(
            "{{ bos_token }}{% for m in messages %}\n    {% if m['role'] == 'user' %}\n[{{ m.content.strip() }}]{% else %}\n{{ m['content'] + eos_token }}{% endif %}\n{% endfor %}\n{% if add_generation_prompt %}>{% endif %}",
        );
        assert_eq!(t.render(&talk(), true).unwrap(), "<s>[Hello.]Yes?</s>[Bye.]>");
        assert_eq!(t.render(&talk()[..1], false).unwrap(), "<s>[Hello.]");
    }

    #[test]
    fn what_a_template_refuses_is_said_in_its_words() {
        let t = template(
            "{% if messages[0]['role'] != 'system' %}{{ raise_exception('system first') }}{% endif %}",
        );
        let error = t.render(&talk(), true).unwrap_err().to_string();
        assert!(error.contains("system first") && error.contains("roles of the messages"), "{error}");
        let error = template("{% for m in %}").render(&talk(), true).unwrap_err().to_string();
        assert!(error.contains("template is broken"), "{error}");
    }

    #[test]
    fn a_template_that_does_not_end_is_stopped() {
        let source = "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
        let error = template(source).render(&talk(), true).unwrap_err().to_string();
        assert!(error.contains("fuel"), "{error}");
    }
}
