//! Keeps the override rules in force at nodes and edges in step with the tree. Without overrides it is never called.

use super::{EdgeId, NodeId, Tree};

impl Tree<'_> {
    pub(super) fn refresh_rule(&mut self, id: EdgeId) {
        let edge = self.edge(id);
        let (declared, name) = (edge.declared, edge.name);
        let Some(of_node) = self.node(edge.from).rule else { return };
        let text = self.catalogue.known.names.text(name);
        let range = self.catalogue.want_ref(declared);
        let rule = self.rules.for_edge(of_node, &text, range.range());
        let want = match self.rules.replacement(rule, &text) {
            Some(replacement) => self.catalogue.own_want_id(&replacement),
            None => declared,
        };
        let edge = self.edge_mut(id);
        edge.rule = Some(rule);
        edge.want = want;
    }

    /// After an edge moved, the rules in force at its old and new ends follow from the edges that lead there.
    pub(super) fn spread_rules(&mut self, before: Option<NodeId>, after: Option<NodeId>) {
        let mut open: Vec<NodeId> = before.into_iter().chain(after).collect();
        // Each step makes a rule more specific or follows a new edge; the bound cuts cycles of both.
        let mut steps = crate::limits::NPM_OVERRIDE_STEPS_MAX;
        while let Some(id) = open.pop() {
            if self.node(id).parent.is_none() || steps == 0 {
                continue;
            }
            steps -= 1;
            let leading = self.node(id).edges_in.iter().filter_map(|&edge| self.edge(edge).rule);
            let Some(rule) = self.rules.most_specific(leading) else { continue };
            if self.node(id).rule == Some(rule) {
                continue;
            }
            self.node_mut(id).rule = Some(rule);
            for edge in self.edges_out(id) {
                self.refresh_rule(edge);
                self.judge(edge);
                open.extend(self.edge(edge).to);
            }
        }
    }
}
