// Package cluster runs the components of real Kubernetes nodes (kube-proxy, flannel, the CNI plugins bridge and
// portmap) in network namespaces, so that what vxlan_exporter says of a node can be held against what real requests on
// it do. The components are built by the script build; a small server of the project's own stands for the Kubernetes
// API (package api).
package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vxlan_exporter/test/cluster/api"
	"vxlan_exporter/test/lab"
)

// Ports of the service in the pod on node B.
const (
	podPort  = 8080
	nodePort = 30080
)

const (
	clusterCIDR  = "10.244.0.0/16"
	clusterCIDR6 = "fd00:244::/48"
	serviceIP    = "10.96.0.80"
	serviceIP6   = "fd00:96::80"
	apiPort      = 6443
)

// Options are what a cell of the matrix varies.
type Options struct {
	Proxy         string // name of the kube-proxy binary: "kube-proxy-1.37", "kube-proxy-1.18"
	Mode          string // of kube-proxy: iptables, nftables, ipvs
	Flannel       string // name of the flannel binary: "flannel-0.28", "flannel-0.12"
	FlannelNFT    bool   // flannel's rules in nftables instead of iptables
	Legacy        bool   // the program iptables is iptables-legacy, on all nodes
	FlannelFirst  bool   // start order
	MasqueradeBit int
	MasqueradeAll bool
	DualStack     bool
	BridgeIPMasq  bool // the pods' CNI plugin "bridge" masquerades by itself (ipMasq)
	PortMap       bool // a host port of the pod on A, by the CNI plugin portmap
	Docker        bool // Docker's MASQUERADE of a bridge of its own, which no pod uses
	NoMasquerade  bool // flannel without --ip-masq
}

// Node is one node of the cluster.
type Node struct {
	*lab.NS
	Pod   *lab.NS
	Name  string
	Addr  netip.Addr
	Addr6 netip.Addr

	pods, pods6 string // pod networks
	program     map[string]*process
}

// PodIP is the address of the node's one pod.
func (n *Node) PodIP() netip.Addr { return netip.MustParsePrefix(n.pods).Addr().Next().Next() }

// Cluster is two nodes with a pod each, and a service whose one endpoint is the pod on B.
type Cluster struct {
	A, B *Node

	o      Options
	bin    string // folder of the components
	folder string // for configuration files
	api    api.Server
	server *http.Server
}

// New builds the network and serves the API; nothing runs on the nodes yet. bin is the folder that the script build has
// filled.
func New(o Options, bin, folder string) (*Cluster, error) {
	c := &Cluster{o: o, bin: bin, folder: folder}
	for i, n := range []**Node{&c.A, &c.B} {
		name := string(rune('a' + i))
		node := &Node{
			Name: "node-" + name, pods: fmt.Sprintf("10.244.%d.0/24", i), pods6: fmt.Sprintf("fd00:244:0:%d::/64", i),
			Addr:    netip.MustParseAddr(fmt.Sprintf("192.168.77.%d", i+1)),
			Addr6:   netip.MustParseAddr(fmt.Sprintf("fd77::%d", i+1)),
			program: map[string]*process{},
		}
		var err error
		if node.NS, err = lab.NewNS("cluster-" + name); err == nil {
			node.Pod, err = lab.NewNS("cluster-pod-" + name)
		}
		*n = node
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	if err := errors.Join(c.wire(), c.serveAPI(), c.configure()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Nodes are both nodes.
func (c *Cluster) Nodes() []*Node { return []*Node{c.A, c.B} }

// wire lays the underlay: without transmit offloads, since a veth carries unfinished checksums across as they are.
func (c *Cluster) wire() error {
	err := c.A.IP("link add eth0 type veth peer name eth0 netns " + c.B.NS.Name)
	for _, n := range c.Nodes() {
		err = errors.Join(err, n.IP(
			fmt.Sprintf("addr add %s/24 dev eth0", n.Addr),
			fmt.Sprintf("addr add %s/64 dev eth0 nodad", n.Addr6),
			"link set eth0 up", "route add default via 192.168.77.254", // where no gateway is
		), n.run("ethtool", "-K", "eth0", "tx", "off"), n.run("sysctl", "-qw",
			"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0",
			"net.ipv4.conf.default.rp_filter=0",
			"net.ipv4.conf.all.route_localnet=1", "net.core.txrehash=0", "net.ipv4.tcp_syn_linear_timeouts=0"))
	}
	return err
}

func (n *Node) run(args ...string) error {
	_, err := n.Run(args...)
	return err
}

// Close ends every program and removes the namespaces.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.Nodes() {
		if n == nil {
			continue
		}
		for _, p := range n.program {
			p.stop()
		}
	}
	if c.server != nil {
		errs = append(errs, c.server.Close())
	}
	for _, n := range c.Nodes() {
		if n == nil {
			continue
		}
		for _, ns := range []*lab.NS{n.Pod, n.NS} {
			if ns != nil {
				errs = append(errs, ns.Close())
			}
		}
	}
	return errors.Join(errs...)
}

// serveAPI serves the API at node A.
func (c *Cluster) serveAPI() error {
	l, err := listen(c.A.NS, fmt.Sprintf("%s:%d", c.A.Addr, apiPort))
	if err != nil {
		return err
	}
	c.server = &http.Server{Handler: &c.api, ReadHeaderTimeout: time.Minute}
	go func() { _ = c.server.Serve(l) }() // ends with http.ErrServerClosed
	for _, n := range c.Nodes() {
		c.api.Put("nodes", n.object(c.o.DualStack))
	}
	c.putService()
	return nil
}

func (c *Cluster) apiURL() string { return fmt.Sprintf("http://%s:%d", c.A.Addr, apiPort) }

func (n *Node) object(dual bool) api.Object {
	addresses := []any{api.Object{"type": "InternalIP", "address": n.Addr.String()}}
	cidrs := []any{n.pods}
	if dual {
		addresses = append(addresses, api.Object{"type": "InternalIP", "address": n.Addr6.String()})
		cidrs = append(cidrs, n.pods6)
	}
	return api.Object{
		"metadata": api.Object{
			"name": n.Name, "labels": api.Object{"kubernetes.io/hostname": n.Name},
			"annotations": api.Object{},
		},
		"spec":   api.Object{"podCIDR": n.pods, "podCIDRs": cidrs},
		"status": api.Object{"addresses": addresses, "conditions": []any{api.Object{"type": "Ready", "status": "True"}}},
	}
}

// putService adds a NodePort service whose endpoint is the pod on B, in the forms that old and new kube-proxies read.
func (c *Cluster) putService() {
	meta := func() api.Object { return api.Object{"name": "web", "namespace": "default"} }
	ips, families, policy := []any{serviceIP}, []any{"IPv4"}, "SingleStack"
	if c.o.DualStack {
		ips, families, policy = append(ips, serviceIP6), append(families, "IPv6"), "RequireDualStack"
	}
	c.api.Put("services", api.Object{"metadata": meta(), "spec": api.Object{
		"type": "NodePort", "clusterIP": serviceIP, "clusterIPs": ips, "ipFamilies": families, "ipFamilyPolicy": policy,
		"externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
		"ports": []any{api.Object{
			"name": "http", "protocol": "TCP", "port": 80, "targetPort": podPort,
			"nodePort": nodePort,
		}},
	}})
	pod := c.B.PodIP().String()
	c.api.Put("endpoints", api.Object{"metadata": meta(), "subsets": []any{api.Object{
		"addresses": []any{api.Object{"ip": pod, "nodeName": c.B.Name}},
		"ports":     []any{api.Object{"name": "http", "port": podPort, "protocol": "TCP"}},
	}}})
	slice := meta()
	slice["name"], slice["labels"] = "web-1", api.Object{"kubernetes.io/service-name": "web"}
	c.api.Put("endpointslices", api.Object{
		"metadata": slice, "addressType": "IPv4",
		"endpoints": []any{api.Object{
			"addresses": []any{pod}, "nodeName": c.B.Name,
			"conditions": api.Object{"ready": true, "serving": true},
		}},
		"ports": []any{api.Object{"name": "http", "port": podPort, "protocol": "TCP"}},
	})
}

// write writes a configuration file as JSON, which is YAML too.
func (c *Cluster) write(name string, content any) error {
	b, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.folder, name), b, 0o600)
}

// search is the PATH of the components: the folder with them first, and the iptables that the cell asks for.
func (c *Cluster) search() (string, error) {
	folder := filepath.Join(c.folder, "path")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	variant := "/usr/sbin/xtables-nft-multi"
	if c.o.Legacy {
		variant = "/usr/sbin/xtables-legacy-multi"
	}
	for _, name := range []string{
		"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save",
		"ip6tables-restore",
	} {
		if err := os.Symlink(variant, filepath.Join(folder, name)); err != nil && !os.IsExist(err) {
			return "", err
		}
	}
	return folder + ":" + strings.Join([]string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"}, ":"), nil
}
