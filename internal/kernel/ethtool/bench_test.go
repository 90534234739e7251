package ethtool_test

import (
	"context"
	"testing"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/test/lab/labtest"
)

// BenchmarkFeatures is the cost per device of its features.
func BenchmarkFeatures(b *testing.B) { benchmarkFeatures(b, false) }

// BenchmarkLook is the cost of a whole observation of one device: socket opened, features read, socket closed.
func BenchmarkLook(b *testing.B) { benchmarkFeatures(b, true) }

func benchmarkFeatures(b *testing.B, reopen bool) {
	ns := labtest.New(b, "ethtool")
	ns.Run("ip", "link", "add", "vx", "type", "vxlan", "id", "1", "dstport", "8472")
	d := device(b, ns, "vx")
	ns.Do(func() error {
		c := ethtool.NewClient(nil)
		defer c.Close()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Features(context.Background(), d); err != nil {
				return err
			}
			if !reopen {
				continue
			}
			if err := c.Close(); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkLinks is the cost of link state and private flags of one NIC, the socket included.
func BenchmarkLinks(b *testing.B) {
	ns := labtest.New(b, "ethtool")
	ns.Run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
	d := device(b, ns, "v0")
	r := ethtool.NewLinkReader(openLinks(ns))
	b.ReportAllocs()
	for b.Loop() {
		if links, err := r.Read(context.Background(), []ethtool.Device{d}); len(links) != 1 || err != nil {
			b.Fatal(links, err)
		}
	}
}
