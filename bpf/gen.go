package bpf

// One object serves every device: all that run Strata are little-endian. It carries
// neither BTF nor debug information, so it loads on kernels that know no BTF, and the
// same compiler gives the same bytes on every machine.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -output-stem strata -no-global-types strata strata.c -- -O2 -mcpu=v2 -Wall -Wextra -Werror -Wno-unused-parameter -I/usr/include/x86_64-linux-gnu
//go:generate llvm-objcopy-19 --remove-section=.BTF --remove-section=.rel.BTF --remove-section=.BTF.ext --remove-section=.rel.BTF.ext strata_bpfel.o
//go:generate clang-19 -O2 -g -target bpfel -I/usr/include/x86_64-linux-gnu -ffile-prefix-map=$PWD=. -c layout.c -o testdata/layout.o
//go:generate llvm-strip-19 -g testdata/layout.o
