package graph

import (
	"reflect"
	"testing"

	"github.com/strata-edge/strata/edge/diag"
)

func scope(k diag.ScopeKind, id string) diag.Scope { return diag.Scope{Kind: k, ID: id} }

func TestGraph(t *testing.T) {
	wan, hop := scope(diag.ScopeIf, "wan0"), scope(diag.ScopeHost, "192.0.2.1")
	server := scope(diag.ScopeHost, "198.51.100.7")
	ep := &diag.Episode{Nodes: []diag.Node{
		{Scope: scope(diag.ScopeService, "a"), Path: []diag.Scope{server, hop, wan}},
		{Scope: scope(diag.ScopeService, "b"), Path: []diag.Scope{server, hop, wan}},
		{Scope: scope(diag.ScopeService, "c"), Path: []diag.Scope{hop, wan}},
		{Scope: server, Path: []diag.Scope{hop, wan}},
		{Scope: hop, Path: []diag.Scope{wan}},
		{Scope: wan},
		{Scope: scope(diag.ScopeService, "d"), Path: []diag.Scope{scope(diag.ScopeHost, "unseen")}},
	}}
	g := New(ep)
	if got := g.Above(0); !reflect.DeepEqual(got, []int{3, 4, 5}) {
		t.Errorf("above a service: %v", got)
	}
	if got := g.Below(4); !reflect.DeepEqual(got, []int{0, 1, 2, 3}) {
		t.Errorf("below the next hop: %v", got)
	}
	if !g.DependsOn(0, 5) || g.DependsOn(5, 0) || g.DependsOn(6, 5) {
		t.Error("dependencies go one way and only where there is a path")
	}
	if got := g.Siblings(0, nil); !reflect.DeepEqual(got, []int{1}) {
		t.Errorf("siblings of a: %v, want the other service on its host", got)
	}
	if got := g.Siblings(5, nil); got != nil {
		t.Errorf("an interface without a parent has siblings %v", got)
	}
	if i, ok := g.Find(hop); !ok || i != 4 {
		t.Errorf("the next hop is node %d, %v", i, ok)
	}
}
