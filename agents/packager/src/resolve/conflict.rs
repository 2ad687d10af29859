//! A proof of `pubgrub` as sentences for people.
//!
//! The proof is a graph that can be a hundred thousand steps deep, so everything here works on a flat copy of it
//! with a stack of its own: nothing recurses, not even the destruction of the solver's tree. What packages
//! and versions are called is the ecosystem's business: it implements [`Vocabulary`].

mod graph;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;

use graph::{Graph, Node};
use words::{external, statement, unusable};

use super::indexed::{Id, Set, Tree};
use crate::limits::EXPLANATION_LINES_MAX;

/// How the packages of one resolution are talked about.
pub(crate) trait Vocabulary {
    /// The name of a package, with backticks: `` `requests[socks]` ``.
    fn name(&self, id: Id) -> String;
    /// Whether it is the project itself, or stands for it.
    fn is_project(&self, id: Id) -> bool;
    /// The real package that a virtual one (an extra, a feature) belongs to.
    fn base(&self, id: Id) -> Option<Id>;
    /// Which versions a set means; `None` for every version.
    fn versions(&self, id: Id, set: &Set) -> Option<String>;
    /// What `from` wants of `to`, as it was written; empty for any version.
    fn requirement(&self, from: Id, versions: &Set, to: Id, wanted: &Set) -> String;
    /// Why nothing that the requirement matches can be used; `None` where there is no more to say than that there
    /// is no such version.
    fn why_nothing(&self, from: Id, versions: &Set, to: Id) -> Option<String>;
    /// Why no version in a set can be used; `None` where no version is in it.
    fn why_unusable(&self, id: Id, set: &Set) -> Option<String>;
}

/// What a failed resolution teaches.
pub(crate) struct Explanation {
    /// The proof, one step per line.
    pub(crate) text: String,
    /// Every package that the proof mentions.
    pub(crate) packages: Vec<Id>,
}

/// Explains a proof, and destroys it.
pub(crate) fn explain(tree: Tree, vocabulary: &dyn Vocabulary) -> Explanation {
    let graph = Graph::new(tree, vocabulary);
    let packages = graph.packages();
    let mut writer = Writer {
        graph: &graph,
        vocabulary,
        lines: Vec::new(),
        numbers: HashMap::new(),
        numbered: 0,
        tasks: Vec::new(),
    };
    writer.write();
    Explanation { text: shorten(writer.lines).join("\n"), packages }
}

/// Keeps the end, where the conclusion is, and most of the beginning.
fn shorten(mut lines: Vec<String>) -> Vec<String> {
    let count = lines.len();
    if count <= EXPLANATION_LINES_MAX {
        return lines;
    }
    let tail = EXPLANATION_LINES_MAX / 3;
    let head = EXPLANATION_LINES_MAX - tail;
    let hidden = count - head - tail;
    lines.splice(head..count - tail, [format!("... ({hidden} more steps)")]);
    lines
}

/// What is left to write.
enum Task {
    /// A derived step with everything it rests on; whether later steps will refer to it by number.
    Visit(usize, bool),
    /// The sentence of a step, after what it rests on was written.
    Emit { step: usize, opening: Opening, is_numbered: bool },
}

/// How a sentence begins; the steps that it names are found again when it is written.
enum Opening {
    /// `Because A and B, ...`
    Because(usize, usize),
    /// `And because A, ...`: the other reason is the sentence before.
    AndBecause(Vec<usize>),
    /// `Thus, ...`
    Thus,
}

struct Writer<'a> {
    graph: &'a Graph,
    vocabulary: &'a dyn Vocabulary,
    lines: Vec<String>,
    numbers: HashMap<usize, usize>,
    numbered: usize,
    tasks: Vec<Task>,
}

impl Writer<'_> {
    fn write(&mut self) {
        let end = self.graph.end();
        if matches!(self.graph.node(end), Node::Trivial) {
            self.lines.push("The requirements cannot be met.".to_owned());
            return;
        }
        if !self.is_derived(end) {
            let fact = self.said(end);
            self.lines.push(format!("Because {fact}, the requirements cannot be met."));
            return;
        }
        self.tasks.push(Task::Visit(end, false));
        while let Some(task) = self.tasks.pop() {
            match task {
                Task::Visit(step, is_numbered) => self.visit(step, is_numbered),
                Task::Emit { step, opening, is_numbered } => self.emit(step, opening, is_numbered),
            }
        }
    }

    fn visit(&mut self, step: usize, is_numbered: bool) {
        if self.numbers.contains_key(&step) {
            return;
        }
        let Node::Derived { causes: [first, second], .. } = *self.graph.node(step) else { return };
        match (self.is_derived(first), self.is_derived(second)) {
            (true, true) => self.visit_two(step, first, second, is_numbered),
            (true, false) => self.visit_one(step, first, second, is_numbered),
            (false, true) => self.visit_one(step, second, first, is_numbered),
            (false, false) => self.later(step, Opening::Because(first, second), is_numbered),
        }
    }

    /// A step that rests on two derived ones.
    fn visit_two(&mut self, step: usize, first: usize, second: usize, is_numbered: bool) {
        match (self.numbers.contains_key(&first), self.numbers.contains_key(&second)) {
            (true, true) => self.later(step, Opening::Because(first, second), is_numbered),
            (true, false) => {
                self.later(step, Opening::AndBecause(vec![first]), is_numbered);
                self.visit_later(second, false);
            }
            (false, true) => {
                self.later(step, Opening::AndBecause(vec![second]), is_numbered);
                self.visit_later(first, false);
            }
            (false, false) => {
                let simple = [first, second].into_iter().find(|&cause| self.is_one_sentence(cause));
                if let Some(simple) = simple.filter(|_| first != second) {
                    let other = if simple == first { second } else { first };
                    self.later(step, Opening::Thus, is_numbered);
                    self.visit_later(simple, false);
                    self.visit_later(other, false);
                } else {
                    self.later(step, Opening::AndBecause(vec![first]), is_numbered);
                    self.visit_later(second, false);
                    self.visit_later(first, true);
                }
            }
        }
    }

    /// A step that rests on a derived one and a fact.
    fn visit_one(&mut self, step: usize, derived: usize, fact: usize, is_numbered: bool) {
        if self.numbers.contains_key(&derived) {
            return self.later(step, Opening::Because(fact, derived), is_numbered);
        }
        // A chain of facts reads better with two of them in a sentence.
        if let Node::Derived { causes: [first, second], .. } = *self.graph.node(derived)
            && !self.graph.is_shared(derived)
            && self.is_derived(first) != self.is_derived(second)
        {
            let (inner, inner_fact) =
                if self.is_derived(first) { (first, second) } else { (second, first) };
            if !self.numbers.contains_key(&inner) {
                self.later(step, Opening::AndBecause(vec![inner_fact, fact]), is_numbered);
                return self.visit_later(inner, false);
            }
        }
        self.later(step, Opening::AndBecause(vec![fact]), is_numbered);
        self.visit_later(derived, false);
    }

    fn later(&mut self, step: usize, opening: Opening, is_numbered: bool) {
        self.tasks.push(Task::Emit { step, opening, is_numbered });
    }

    fn visit_later(&mut self, step: usize, is_numbered: bool) {
        self.tasks.push(Task::Visit(step, is_numbered || self.graph.is_shared(step)));
    }

    fn emit(&mut self, step: usize, opening: Opening, is_numbered: bool) {
        let conclusion = self.said(step);
        let mut line = match opening {
            Opening::Because(first, second) => {
                let (first, second) = (self.named(first), self.named(second));
                format!("Because {first} and {second}, {conclusion}.")
            }
            Opening::AndBecause(reasons) => {
                let reasons: Vec<_> =
                    reasons.into_iter().map(|reason| self.named(reason)).collect();
                format!("And because {}, {conclusion}.", reasons.join(" and "))
            }
            Opening::Thus => format!("Thus, {conclusion}."),
        };
        if is_numbered {
            self.numbered += 1;
            self.numbers.insert(step, self.numbered);
            line.push_str(&format!(" ({})", self.numbered));
        }
        self.lines.push(line);
    }

    /// What a step says, with its number where it has one.
    fn named(&self, step: usize) -> String {
        match self.numbers.get(&step) {
            Some(number) => format!("{} ({number})", self.said(step)),
            None => self.said(step),
        }
    }

    fn said(&self, step: usize) -> String {
        match self.graph.node(step) {
            Node::External(fact) => external(fact, self.vocabulary),
            Node::Derived { terms, .. } => statement(terms, self.vocabulary),
            Node::Unusable { id, set, reasons } => unusable(*id, set, reasons, self.vocabulary),
            Node::Trivial => "nothing else fits".to_owned(),
        }
    }

    fn is_derived(&self, step: usize) -> bool {
        matches!(self.graph.node(step), Node::Derived { .. })
    }

    fn is_one_sentence(&self, step: usize) -> bool {
        match self.graph.node(step) {
            Node::Derived { causes, .. } => !causes.iter().any(|&cause| self.is_derived(cause)),
            _ => false,
        }
    }
}
