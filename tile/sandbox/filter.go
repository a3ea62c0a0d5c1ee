package sandbox

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// Rule allows one system call.
type Rule struct {
	Nr    uint32 // unix.SYS_...
	Args  []Arg  // all must hold; none: whatever the arguments. Several rules of one Nr are alternatives.
	Errno uint32 // not 0: the call is refused with this instead; Args is not looked at
}

// Arg holds if the low 32 bits of argument I (0 to 5), of which the kernel must use no more, are Want where Mask is 1.
type Arg struct {
	I          uint32
	Mask, Want uint32
}

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16

	x32Bit = 0x40000000 // of the number, for calls by the x32 ABI
)

const refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)

// Supported tells whether filters can be had here. It changes nothing. Errors: ErrHost.
func Supported() error {
	if e := shmem.SeccompAction(unix.SECCOMP_RET_ERRNO); e != 0 {
		return fmt.Errorf("%w: seccomp: %w", ErrHost, e)
	}
	return nil
}

// Filter allows all threads of this process, and what they start, no system calls but those of the rules, for ever. Others
// return EPERM, and are reported to the kernel's audit log where that listens. no_new_privs must be set (DropPrivileges
// of the process's parent did it). Errors: ErrRules, ErrHost.
func Filter(rules []Rule) error {
	prog, err := assemble(rules)
	if err != nil {
		return err
	}
	// SPEC_ALLOW: kernels before 5.16 would else switch the speculative store bypass off for the process, which costs
	// every load after a store; a tile runs nobody's code but its own.
	tid, e := shmem.SeccompFilter(prog, unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_LOG|unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW)
	if e == unix.EACCES {
		return fmt.Errorf("%w: no_new_privs is not set", ErrPrivileged)
	}
	if e != 0 {
		return fmt.Errorf("%w: seccomp: %w", ErrHost, e)
	}
	if tid != 0 {
		return fmt.Errorf("%w: thread %d has a filter of its own", ErrHost, tid)
	}
	return nil
}

// assemble makes the program:
//
//	not this machine's ABI: kill
//	for each number: not it: next; no arguments asked: allow; an alternative's arguments hold: allow; refuse
//	refuse
func assemble(rules []Rule) ([]unix.SockFilter, error) {
	byNr := map[uint32][]Rule{}
	var order []uint32
	for _, r := range rules {
		if _, ok := byNr[r.Nr]; !ok {
			order = append(order, r.Nr)
		}
		byNr[r.Nr] = append(byNr[r.Nr], r)
	}
	p := []unix.SockFilter{
		load(offArch),
		jump(unix.BPF_JEQ, unix.AUDIT_ARCH_X86_64, 1, 0),
		ret(unix.SECCOMP_RET_KILL_PROCESS),
		load(offNr),
		jump(unix.BPF_JGE, x32Bit, 0, 1),
		ret(unix.SECCOMP_RET_KILL_PROCESS),
	}
	for _, nr := range order {
		body, err := alternatives(byNr[nr])
		if err != nil {
			return nil, err
		}
		p = append(p, jump(unix.BPF_JEQ, nr, 0, uint8(len(body))))
		p = append(p, body...)
	}
	p = append(p, ret(refuse))
	if len(p) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("%w: %d instructions", ErrRules, len(p))
	}
	return p, nil
}

// alternatives is what is done once the number is known.
func alternatives(rules []Rule) ([]unix.SockFilter, error) {
	if i := slices.IndexFunc(rules, func(r Rule) bool { return r.Errno != 0 }); i >= 0 {
		if len(rules) > 1 {
			return nil, fmt.Errorf("%w: call %d is both allowed and refused", ErrRules, rules[i].Nr)
		}
		return []unix.SockFilter{ret(unix.SECCOMP_RET_ERRNO | rules[i].Errno)}, nil
	}
	if slices.ContainsFunc(rules, func(r Rule) bool { return len(r.Args) == 0 }) {
		return []unix.SockFilter{ret(unix.SECCOMP_RET_ALLOW)}, nil
	}
	var p []unix.SockFilter
	for _, r := range rules {
		n := len(r.Args)
		for i, a := range r.Args {
			if a.I > 5 {
				return nil, fmt.Errorf("%w: argument %d of call %d", ErrRules, a.I, r.Nr)
			}
			// From the i-th test to behind this alternative's return: the tests after it, three each, and the return.
			p = append(p, load(offArgs+8*a.I), // little endian: the low word comes first
				unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: a.Mask},
				jump(unix.BPF_JEQ, a.Want, 0, uint8(3*(n-1-i)+1)))
		}
		p = append(p, ret(unix.SECCOMP_RET_ALLOW))
	}
	p = append(p, ret(refuse))
	if len(p) > 255 {
		return nil, fmt.Errorf("%w: call %d has too many alternatives", ErrRules, rules[0].Nr)
	}
	return p, nil
}

func load(off uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
}

func jump(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: yes, Jf: no, K: k}
}

func ret(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}
