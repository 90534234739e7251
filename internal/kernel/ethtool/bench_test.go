package ethtool_test

import (
	"context"
	"testing"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/test/lab/labtest"
)

// BenchmarkFeatures is the cost per device of the two ways to read features. Auto takes the cheaper one first because of it.
func BenchmarkFeatures(b *testing.B) {
	ns := labtest.New(b, "ethtool")
	ns.Run("ip", "link", "add", "vx", "type", "vxlan", "id", "1", "dstport", "8472")
	for _, path := range []ethtool.Path{ethtool.Ioctl, ethtool.Netlink} {
		d := device(b, ns, "vx")
		b.Run(string(path), func(b *testing.B) {
			ns.Do(func() error {
				c := ethtool.NewClient(ethtool.Config{Path: path})
				defer c.Close()
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Features(context.Background(), d); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

// BenchmarkLook is the cost of a whole look at one device: sockets opened, features read, sockets closed.
func BenchmarkLook(b *testing.B) {
	ns := labtest.New(b, "ethtool")
	ns.Run("ip", "link", "add", "vx", "type", "vxlan", "id", "1", "dstport", "8472")
	for _, path := range []ethtool.Path{ethtool.Ioctl, ethtool.Netlink} {
		d := device(b, ns, "vx")
		b.Run(string(path), func(b *testing.B) {
			ns.Do(func() error {
				c := ethtool.NewClient(ethtool.Config{Path: path})
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Features(context.Background(), d); err != nil {
						return err
					}
					if err := c.Close(); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}
