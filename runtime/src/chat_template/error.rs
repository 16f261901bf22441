/// Why a chat template gave no prompt. The texts are for the client whose messages they are about: a template may quote
/// them, so they are not for logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatTemplateError {
    /// It cannot be used at all.
    #[error("the model's chat template cannot be used: {0}")]
    Broken(String),
    /// It called `raise_exception`: it does not take such messages.
    #[error("the model's chat template refuses the messages: {0}")]
    Refused(String),
    /// It fails on these messages.
    #[error("the model's chat template fails: {0}")]
    Failed(String),
    /// It takes more steps, or makes more text on the way, than any prompt needs.
    #[error("the model's chat template does not come to an end")]
    Endless,
    /// The prompt is too long for any context.
    #[error("the model's chat template makes a prompt of more than {0} bytes")]
    TooLong(usize),
}
