package graph

import "github.com/strata-edge/strata/edge/diag"

// Graph holds the dependencies between an episode's nodes. Nodes are named by their
// index in Episode.Nodes.
type Graph struct {
	ep    *diag.Episode
	index map[diag.Scope]int
	above [][]int // what node i depends on, nearest first
	below [][]int // what depends on node i
}

// New builds the graph of ep. Path scopes that are no node of ep are left out.
func New(ep *diag.Episode) *Graph {
	g := &Graph{
		ep:    ep,
		index: make(map[diag.Scope]int, len(ep.Nodes)),
		above: make([][]int, len(ep.Nodes)),
		below: make([][]int, len(ep.Nodes)),
	}
	for i := range ep.Nodes {
		g.index[ep.Nodes[i].Scope] = i
	}
	for i := range ep.Nodes {
		for _, s := range ep.Nodes[i].Path {
			if j, ok := g.index[s]; ok && j != i {
				g.above[i] = append(g.above[i], j)
				g.below[j] = append(g.below[j], i)
			}
		}
	}
	return g
}

// Len gives the number of nodes.
func (g *Graph) Len() int { return len(g.ep.Nodes) }

// Node gives node i.
func (g *Graph) Node(i int) *diag.Node { return &g.ep.Nodes[i] }

// Find gives the index of a scope.
func (g *Graph) Find(s diag.Scope) (i int, ok bool) {
	i, ok = g.index[s]
	return i, ok
}

// Above gives what node i depends on, nearest first.
func (g *Graph) Above(i int) []int { return g.above[i] }

// Below gives what depends on node i.
func (g *Graph) Below(i int) []int { return g.below[i] }

// DependsOn says whether node i depends on node j.
func (g *Graph) DependsOn(i, j int) bool {
	for _, a := range g.above[i] {
		if a == j {
			return true
		}
	}
	return false
}

// Siblings appends to into the nodes of i's kind that depend on the same nearest node,
// without i. A node that depends on nothing has none.
func (g *Graph) Siblings(i int, into []int) []int {
	if len(g.above[i]) == 0 {
		return into
	}
	parent := g.above[i][0]
	for _, j := range g.below[parent] {
		if j != i && g.ep.Nodes[j].Scope.Kind == g.ep.Nodes[i].Scope.Kind && g.above[j][0] == parent {
			into = append(into, j)
		}
	}
	return into
}
