package sandbox

import (
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

func inNetwork(n *network, f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.ns); err != nil {
			return err
		}
		return f()
	})
}

func removeBridge() error {
	br, err := netlink.LinkByName(Bridge)
	if err != nil {
		return err
	}
	return netlink.LinkDel(br)
}
