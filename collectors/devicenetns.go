package collectors

import (
	"os"
	"path/filepath"

	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

// maxNamespaces bounds the named namespaces that are asked about.
const maxNamespaces = 256

// nameNamespaces fills LinkNetnsPath: the namespace that a device was moved here from, where it is that of the first
// process, or has a name that iproute2 or Docker gave it. What cannot be opened or asked stays unnamed.
func (c *Device) nameNamespaces(conn *rtnl.Conn, devices []node.Device) {
	names := map[int32]string{}
	for i := range devices {
		d := &devices[i]
		if d.LinkNetns == nil {
			continue
		}
		if len(names) == 0 {
			c.listNamespaces(conn, names)
		}
		d.LinkNetnsPath = names[*d.LinkNetns]
	}
}

func (c *Device) listNamespaces(conn *rtnl.Conn, names map[int32]string) {
	paths := []string{filepath.Join(c.cfg.Proc, "1/ns/net")}
	for _, pattern := range []string{"/run/netns/*", "/run/docker/netns/*"} {
		found, _ := filepath.Glob(pattern) // the patterns are well formed
		paths = append(paths, found...)
	}
	for _, path := range paths[:min(maxNamespaces, len(paths))] {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if id, err := conn.NamespaceID(int(f.Fd())); err == nil && names[id] == "" {
			names[id] = path
		}
		_ = f.Close()
	}
}
