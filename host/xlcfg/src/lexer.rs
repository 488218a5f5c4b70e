//! Words of a file, as `libxlu_cfg_l.l` of Xen 4.17 has them.

use crate::{Result, wrong};

/// A word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// `[a-z][._0-9a-z]*`
    Name(String),
    /// `[0-9][0-9a-fx]*`, as it is written.
    Number(String),
    /// What stands between quotation marks.
    Text(String),
    /// `=`
    Assign,
    /// `+=`
    Add,
    /// `,`
    Comma,
    /// `[`
    Open,
    /// `]`
    Close,
    /// `;`
    Semicolon,
    /// The end of a line, with the comment before it.
    Newline,
}

/// All words, each with its line.
pub fn words(text: &str) -> Result<Vec<(usize, Word)>> {
    let mut lexer = Lexer { rest: text, line: 1 };
    let mut all = Vec::new();
    while let Some(word) = lexer.next()? {
        let line = lexer.line;
        if word == Word::Newline {
            lexer.line += 1;
        }
        all.push((line, word));
    }
    Ok(all)
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl Lexer<'_> {
    fn take(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let first = chars.next();
        self.rest = chars.as_str();
        first
    }

    fn run(&mut self, belongs: fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        run.to_owned()
    }

    fn next(&mut self) -> Result<Option<Word>> {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        if first.is_ascii_lowercase() {
            let belongs = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_');
            return Ok(Some(Word::Name(self.run(belongs))));
        }
        if first.is_ascii_digit() {
            let belongs = |c: char| c.is_ascii_digit() || matches!(c, 'a'..='f' | 'x');
            return Ok(Some(Word::Number(self.run(belongs))));
        }
        self.take();
        Ok(Some(match first {
            ',' => Word::Comma,
            '[' => Word::Open,
            ']' => Word::Close,
            ';' => Word::Semicolon,
            '=' => Word::Assign,
            '+' if self.rest.starts_with('=') => {
                self.take();
                Word::Add
            }
            '\n' => Word::Newline,
            '#' => {
                self.run(|c| c != '\n');
                self.take();
                Word::Newline
            }
            '\'' | '"' => Word::Text(self.quoted(first)?),
            '\r' => return wrong(self.line, "lines end with a carriage return: is it a file of DOS?"),
            other => {
                let cure = if "-+.():".contains(other) {
                    ": is this a Python script? xl takes none, either"
                } else {
                    ""
                };
                return wrong(self.line, format!("nothing can begin with {other:?} here{cure}"));
            }
        }))
    }

    /// A text up to its closing quotation mark.
    fn quoted(&mut self, mark: char) -> Result<String> {
        let mut text = String::new();
        loop {
            match self.take() {
                Some(c) if c == mark => return Ok(text),
                Some('\\') => text.push(self.escaped()?),
                None | Some('\n') => return wrong(self.line, "a text has no closing quotation mark"),
                Some(c) => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char> {
        Ok(match self.take() {
            Some(c @ ('"' | '\'' | '\\')) => c,
            Some('a') => '\x07',
            Some('b') => '\x08',
            Some('f') => '\x0c',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\x0b',
            // libxlu reads these two, and forgets the character (4.17): nobody can have meant that.
            Some('x' | '0'..='7') => {
                return wrong(self.line, "characters by number are not served: write the character");
            }
            _ => return wrong(self.line, "after a backslash comes one of \" ' \\ a b f n r t v"),
        })
    }
}
