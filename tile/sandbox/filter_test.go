package sandbox

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// interpret runs a program as the kernel would, over struct seccomp_data.
func interpret(t *testing.T, prog []unix.SockFilter, data []byte) uint32 {
	t.Helper()
	var a uint32
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = binary.LittleEndian.Uint32(data[in.K:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= in.K)
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %d: code %#x", pc, in.Code)
		}
	}
	t.Fatal("the program has no end")
	return 0
}

// naive is what the rules say.
func naive(rules []Rule, arch, nr uint32, args [6]uint64) uint32 {
	if arch != unix.AUDIT_ARCH_X86_64 || nr >= x32Bit {
		return unix.SECCOMP_RET_KILL_PROCESS
	}
	for _, r := range rules {
		if r.Nr != nr {
			continue
		}
		if r.Errno != 0 {
			return unix.SECCOMP_RET_ERRNO | r.Errno
		}
		if !slices.ContainsFunc(r.Args, func(a Arg) bool { return uint32(args[a.I])&a.Mask != a.Want }) {
			return unix.SECCOMP_RET_ALLOW
		}
	}
	return unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
}

func run(t *testing.T, prog []unix.SockFilter, arch, nr uint32, args [6]uint64) uint32 {
	data := make([]byte, 64)
	binary.LittleEndian.PutUint32(data[offNr:], nr)
	binary.LittleEndian.PutUint32(data[offArch:], arch)
	for i, v := range args {
		binary.LittleEndian.PutUint64(data[offArgs+8*i:], v)
	}
	return interpret(t, prog, data)
}

// The lists, and random ones, mean as a program what they say as rules.
func TestAssemble(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	lists := [][]Rule{NetCalls(), ProducerCalls(), SourceCalls(), nil}
	for range 30 {
		var l []Rule
		refused := map[uint32]bool{}
		for range rng.IntN(60) {
			r := Rule{Nr: rng.Uint32N(40)}
			if refused[r.Nr] {
				continue
			}
			for range rng.IntN(4) {
				mask := rng.Uint32() & rng.Uint32()
				r.Args = append(r.Args, Arg{I: rng.Uint32N(6), Mask: mask, Want: mask & rng.Uint32N(4)})
			}
			if rng.IntN(8) == 0 && !slices.ContainsFunc(l, func(o Rule) bool { return o.Nr == r.Nr }) {
				r.Errno, refused[r.Nr] = 38, true
			}
			l = append(l, r)
		}
		lists = append(lists, l)
	}
	for i, l := range lists {
		prog, err := assemble(l)
		if err != nil {
			t.Fatalf("list %d: %v", i, err)
		}
		var asked []uint64 // values that rules ask for
		for _, r := range l {
			for _, a := range r.Args {
				asked = append(asked, uint64(a.Want), uint64(^a.Mask|a.Want))
			}
		}
		asked = append(asked, 0, ^uint64(0))
		check := func(arch, nr uint32) {
			var args [6]uint64
			for k := range args {
				if args[k] = asked[rng.IntN(len(asked))]; rng.IntN(3) == 0 {
					args[k] ^= 1 << rng.IntN(64)
				}
			}
			if got, want := run(t, prog, arch, nr, args), naive(l, arch, nr, args); got != want {
				t.Fatalf("list %d: arch %#x, call %d%v: %#x, want %#x", i, arch, nr, args, got, want)
			}
		}
		for nr := range uint32(600) {
			for range 8 {
				check(unix.AUDIT_ARCH_X86_64, nr)
			}
			check(unix.AUDIT_ARCH_X86_64, nr|x32Bit)
			check(unix.AUDIT_ARCH_I386, nr)
		}
		check(unix.AUDIT_ARCH_X86_64, ^uint32(0))
	}
}

func TestAssembleRefuses(t *testing.T) {
	long := make([]Rule, 100)
	for i := range long {
		long[i] = Rule{Nr: 1, Args: []Arg{{I: 0, Mask: 1, Want: 1}}}
	}
	for _, l := range [][]Rule{
		{{Nr: 1}, {Nr: 1, Errno: 38}},
		{{Nr: 1, Args: []Arg{{I: 6}}}},
		long,
		slices.Repeat([]Rule{{Nr: 1}}, 1), // good, for comparison
	} {
		if _, err := assemble(l); (len(l) == 1 && l[0].Args == nil) != (err == nil) || err != nil && !errors.Is(err, ErrRules) {
			t.Errorf("%+v: %v", l[:1], err)
		}
	}
	var many []Rule
	for nr := range uint32(2500) {
		many = append(many, Rule{Nr: nr})
	}
	if _, err := assemble(many); !errors.Is(err, ErrRules) {
		t.Errorf("too many rules: %v", err)
	}
}
