package watch

// The compiled object is in the repository, so that building needs no clang; scripts/ebpf.sh makes it anew, and CI
// compares.
//go:generate go tool -modfile=../../../tools/go.mod bpf2go -cc clang-16 -strip llvm-strip-16 -cflags "-O2 -Wall -Werror" -target bpfel watch bpf/watch.bpf.c
