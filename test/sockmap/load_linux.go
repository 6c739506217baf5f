package sockmap

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// most is how many connections a map holds; those beyond it use TCP.
const most = 16384

// Sockmap is the maps and programs while they are loaded.
type Sockmap struct {
	clients, servers *ebpf.Map
	link             link.Link
	close            []func() error // in reverse
}

// Options of Load.
type Options struct {
	// Cgroup, of version 2, is whose connections are taken.
	Cgroup string
	// Except is the address of servers to which connections are left to TCP.
	Except netip.Addr
	// OneWay leaves to TCP what servers send.
	OneWay bool
}

// Load takes the connections that the processes of a cgroup make with each other
// in one network namespace from now on. It needs CAP_BPF and CAP_NET_ADMIN.
func Load(o Options) (*Sockmap, error) {
	s := &Sockmap{}
	if err := s.load(o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Sockmap) load(o Options) (err error) {
	if s.clients, err = s.hash("clients"); err != nil {
		return err
	}
	if s.servers, err = s.hash("servers"); err != nil {
		return err
	}
	if err := s.verdict(s.clients, "from_client", redirect(s.servers, true)); err != nil {
		return err
	}
	if !o.OneWay {
		if err := s.verdict(s.servers, "from_server", redirect(s.clients, false)); err != nil {
			return err
		}
	}
	p, err := s.program("insert", ebpf.SockOps, ebpf.AttachCGroupSockOps, insert(s.clients, s.servers, o.Except))
	if err != nil {
		return err
	}
	s.link, err = link.AttachCgroup(link.CgroupOptions{Path: o.Cgroup, Attach: ebpf.AttachCGroupSockOps, Program: p})
	if err != nil {
		return fmt.Errorf("sockmap: attach to cgroup %s: %w", o.Cgroup, err)
	}
	s.close = append(s.close, s.link.Close)
	return nil
}

func (s *Sockmap) hash(name string) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: name, Type: ebpf.SockHash, KeySize: keySize, ValueSize: 8, MaxEntries: most})
	if err != nil {
		return nil, fmt.Errorf("sockmap: make map %s: %w", name, err)
	}
	s.close = append(s.close, m.Close)
	return m, nil
}

func (s *Sockmap) program(name string, t ebpf.ProgramType, a ebpf.AttachType, ins asm.Instructions) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: t, AttachType: a, License: "Apache-2.0", Instructions: ins})
	if err != nil {
		return nil, fmt.Errorf("sockmap: load program %s: %w", name, err)
	}
	s.close = append(s.close, p.Close)
	return p, nil
}

// verdict makes ins decide about what the sockets in m send.
func (s *Sockmap) verdict(m *ebpf.Map, name string, ins asm.Instructions) error {
	p, err := s.program(name, ebpf.SkMsg, ebpf.AttachSkMsgVerdict, ins)
	if err != nil {
		return err
	}
	err = link.RawAttachProgram(link.RawAttachProgramOptions{Target: m.FD(), Program: p, Attach: ebpf.AttachSkMsgVerdict})
	if err != nil {
		return fmt.Errorf("sockmap: attach program %s: %w", name, err)
	}
	return nil
}

// Close leaves new connections to TCP. Those that were taken are given back too,
// and lose what is in a queue: close them first.
func (s *Sockmap) Close() error {
	var errs []error
	for i := len(s.close) - 1; i >= 0; i-- {
		errs = append(errs, s.close[i]())
	}
	s.close = nil
	return errors.Join(errs...)
}
