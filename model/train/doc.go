// Command train makes the model bundle from labelled candidates that the lab recorded.
//
//	train -rows FILE -out DIR [-version N] [-seed N] [-key FILE] [-allow-worse]
//	train -rows FILE -out DIR -check
//
// The rows are JSON lines, plain or gzip:
//
//	{"run":17,"scenario":"mtu-blackhole","scope":"service:tcp/192.0.2.7:443","label":"l3.mtu.blackhole","schema":"3fa7…","x":[0,1.386,…]}
//
// run (a number or a string) names one run of the lab: all of its rows go into the same
// part, training, validation or test, so that no test row has a neighbour in training.
// label is the cause whose root the scope is; "none" where it is not the root of
// anything, "ignore" where nobody can say (while a fault builds up or wears off). The
// optional part is "train", "validation", "test" or "shifted"; shifted rows come from
// runs that differ in kind (topology, implementation) and are only ever measured.
//
// A multilayer perceptron with one logistic output for each cause is trained by Adam,
// stopped early on validation, calibrated there class by class, and measured on the
// test runs beside a decision tree learnt from the same rows and the most frequent
// label. The model is written only if its macro-F1 is above the tree's.
//
// Training is single-threaded and uses no operation whose last bit depends on the
// compiler or the processor, so that the same rows and seed give the same bytes
// everywhere; -check trains again and compares. The signing key is made for one training
// and forgotten, unless -key names an operator's own (ed25519, PKCS #8 in PEM).
package main
