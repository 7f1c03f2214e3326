// Package model holds what the learnt part of the diagnosis is made of, without any
// runtime: the feature schema, the network as an ONNX file, and the signed bundle that
// carries it.
//
// edge/cause asks Default for the schema and computes one row of features for each
// candidate, a scope that may be the root of an episode. The row goes to a scorer
// (model/ort, ONNX Runtime), which gives one probability for each cause of
// Schema.Classes. model/train makes the bundle.
//
// A bundle is three files: model.onnx, model.json (Metadata) and model.sig, an ed25519
// signature over both. Builtin gives the bundle that is embedded in the program; Load
// reads an operator's folder. Both go through the same checks: size, signature, version,
// schema, and a decoding that accepts no other graph than a chain of Sub, Mul, Clip, Gemm
// and Relu that ends in Sigmoid. The bytes that were checked are the bytes that run.
//
// All values are immutable once returned and may be shared by goroutines. The package
// imports nothing of Strata; codes and causes are strings here, and a test holds them
// to the lists in edge/diag.
package model
