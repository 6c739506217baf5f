package sockmap

import (
	"encoding/binary"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// The key of a connection is what both of its ends see alike, even when the
// destination was redirected on the way:
//
//	cookie of the network namespace, 8 bytes
//	address of the client, 16 bytes, IPv4 mapped into IPv6
//	port of the client, 4 bytes, and 4 that are zero
const (
	keySize = 32
	keyAt   = -keySize // on the stack
	addrAt  = keyAt + 8
	portAt  = keyAt + 24
)

// layout is where a program finds the addresses of its socket.
type layout struct {
	family, remote4, local4, remote6, local6, remotePort, localPort int16
}

// struct bpf_sock_ops and struct sk_msg_md in linux/bpf.h.
var (
	sockOps = layout{family: 20, remote4: 24, local4: 28, remote6: 32, local6: 48, remotePort: 64, localPort: 68}
	skMsg   = layout{family: 16, remote4: 20, local4: 24, remote6: 28, local6: 44, remotePort: 60, localPort: 64}
)

// key writes the key of the connection to the stack, for the client's or the
// server's end of it. R6 is the context; name sets its labels apart.
func (c layout) key(name string, client bool) asm.Instructions {
	addr4, addr6 := c.remote4, c.remote6
	if client {
		addr4, addr6 = c.local4, c.local6
	}
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol(name),
		asm.FnGetNetnsCookie.Call(),
		asm.StoreMem(asm.RFP, keyAt, asm.R0, asm.DWord),
		asm.LoadMem(asm.R1, asm.R6, c.family, asm.Word),
		asm.JNE.Imm(asm.R1, unix.AF_INET, name+" IPv6"),
		asm.StoreImm(asm.RFP, addrAt, 0, asm.Word),
		asm.StoreImm(asm.RFP, addrAt+4, 0, asm.Word),
		asm.StoreImm(asm.RFP, addrAt+8, int64(mapped()), asm.Word),
		asm.LoadMem(asm.R1, asm.R6, addr4, asm.Word),
		asm.StoreMem(asm.RFP, addrAt+12, asm.R1, asm.Word),
		asm.Ja.Label(name + " port"),
	}
	for i := range int16(4) {
		load := asm.LoadMem(asm.R1, asm.R6, addr6+4*i, asm.Word)
		if i == 0 {
			load = load.WithSymbol(name + " IPv6")
		}
		ins = append(ins, load, asm.StoreMem(asm.RFP, addrAt+4*i, asm.R1, asm.Word))
	}
	if client {
		ins = append(ins, asm.LoadMem(asm.R1, asm.R6, c.localPort, asm.Word).WithSymbol(name+" port"))
	} else {
		ins = append(ins,
			asm.LoadMem(asm.R1, asm.R6, c.remotePort, asm.Word).WithSymbol(name+" port"),
			asm.HostTo(asm.BE, asm.R1, asm.Word)) // the other one is in host order already
	}
	return append(ins,
		asm.StoreMem(asm.RFP, portAt, asm.R1, asm.Word),
		asm.StoreImm(asm.RFP, portAt+4, 0, asm.Word))
}

// mapped is the word that marks an IPv4 address mapped into IPv6.
func mapped() int32 {
	return int32(binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff}))
}

// insert is the program of a cgroup: each end of a new connection goes into the
// map of its side, but for connections to the address of the server except.
func insert(clients, servers *ebpf.Map, except netip.Addr) asm.Instructions {
	const active, passive = 4, 5 // BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB and its passive sister
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R6, 0, asm.Word), // op
		asm.JEq.Imm(asm.R7, active, "active"),
		asm.JEq.Imm(asm.R7, passive, "passive"),
		asm.Ja.Label("done"),
	}
	for _, end := range []struct {
		name   string
		into   *ebpf.Map
		server int16 // where the context has the server's address
	}{{"active", clients, sockOps.remote4}, {"passive", servers, sockOps.local4}} {
		key := sockOps.key(end.name+" key", end.name == "active")
		first := asm.LoadMem(asm.R1, asm.R6, end.server, asm.Word).WithSymbol(end.name)
		ins = append(ins, first)
		if except.Is4() {
			b := except.As4()
			ins = append(ins,
				asm.Mov.Imm32(asm.R2, int32(binary.NativeEndian.Uint32(b[:]))),
				asm.JEq.Reg32(asm.R1, asm.R2, "done"))
		}
		ins = append(append(ins, key...),
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.LoadMapPtr(asm.R2, end.into.FD()),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, keyAt),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnSockHashUpdate.Call(),
			asm.Ja.Label("done"))
	}
	return append(ins,
		asm.Mov.Imm(asm.R0, 1).WithSymbol("done"),
		asm.Return())
}

// redirect is the program of the sockets of one side: what they send is put into
// the receive queue of their peer, or goes through TCP when that is not in its
// map yet or no more.
func redirect(peers *ebpf.Map, client bool) asm.Instructions {
	const ingress, pass = 1, 1 // BPF_F_INGRESS, SK_PASS
	ins := append(asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}, skMsg.key("key", client)...)
	return append(ins,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, peers.FD()),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, keyAt),
		asm.Mov.Imm(asm.R4, ingress),
		asm.FnMsgRedirectHash.Call(),
		asm.Mov.Imm(asm.R0, pass),
		asm.Return())
}
