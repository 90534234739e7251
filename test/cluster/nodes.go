// Package cluster runs the components of real Kubernetes nodes (kube-proxy, flannel, the CNI plugins bridge and
// portmap) in network namespaces, so that what vxlan_exporter says of a node can be held against what real requests on
// it do. The components are built by the script build; a small server of the project's own stands for the Kubernetes
// API (package api).
package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/cluster/api"
	"vxlan_exporter/test/lab"
)

// Ports.
const (
	podPort  = 8080  // of the service in the pod on node B
	nodePort = 30080 // the first of the service's; each change of it takes the next one
	apiPort  = 6443
)

const (
	clusterCIDR  = "10.244.0.0/16"
	clusterCIDR6 = "fd00:244::/48"
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

// addresses are those of a node in one family.
type addresses struct {
	node, service, pod netip.Addr
	pods               string // network of its pods
	device             string // flannel's device
}

// Families are the families of the cluster, as the exporter names them.
func (c *Cluster) Families() []string {
	if c.o.DualStack {
		return []string{node.IPv4, node.IPv6}
	}
	return []string{node.IPv4}
}

func (n *Node) in(family string) addresses {
	a := addresses{n.Addr, netip.MustParseAddr("10.96.0.80"), netip.Addr{}, n.pods, "flannel.1"}
	if family == node.IPv6 {
		a = addresses{n.Addr6, netip.MustParseAddr("fd00:96::80"), netip.Addr{}, n.pods6, "flannel-v6.1"}
	}
	a.pod = netip.MustParsePrefix(a.pods).Addr().Next().Next()
	return a
}

// Cluster is two nodes with a pod each, and a service whose one endpoint is the pod on B.
type Cluster struct {
	A, B *Node

	o      Options
	bin    string // folder of the components
	folder string // for configuration files
	api    api.Server
	server *http.Server
	port   uint16 // nodePort of the service
}

// New builds the network and serves the API; nothing runs on the nodes yet. bin is the folder that the script build has
// filled.
func New(o Options, bin, folder string) (*Cluster, error) {
	c := &Cluster{o: o, bin: bin, folder: folder, port: nodePort}
	for i, n := range []**Node{&c.A, &c.B} {
		name := string(rune('a' + i))
		made := &Node{
			Name: "node-" + name, pods: fmt.Sprintf("10.244.%d.0/24", i), pods6: fmt.Sprintf("fd00:244:0:%d::/64", i),
			Addr:    netip.MustParseAddr(fmt.Sprintf("192.168.77.%d", i+1)),
			Addr6:   netip.MustParseAddr(fmt.Sprintf("fd77::%d", i+1)),
			program: map[string]*process{},
		}
		var err error
		if made.NS, err = lab.NewNS("cluster-" + name); err == nil {
			made.Pod, err = lab.NewNS("cluster-pod-" + name)
		}
		*n = made
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
	var errs []error
	for _, n := range c.Nodes() {
		const noDAD = "net.ipv6.conf.%s.accept_dad=0" // an address is there at once
		for _, ns := range []*lab.NS{n.NS, n.Pod} {
			_, err := ns.Run("sysctl", "-qw", fmt.Sprintf(noDAD, "all"), fmt.Sprintf(noDAD, "default"))
			errs = append(errs, err)
		}
		errs = append(errs, n.run("sysctl", "-qew", // old kernels do not have them all
			"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0",
			"net.ipv4.conf.default.rp_filter=0",
			"net.ipv4.conf.all.route_localnet=1", "net.core.txrehash=0", "net.ipv4.tcp_syn_linear_timeouts=0"))
	}
	errs = append(errs, c.A.IP("link add eth0 type veth peer name eth0 netns "+c.B.NS.Name))
	for _, n := range c.Nodes() {
		errs = append(errs, n.IP(
			fmt.Sprintf("addr add %s/24 dev eth0", n.Addr), fmt.Sprintf("addr add %s/64 dev eth0", n.Addr6),
			"link set eth0 up", // the gateways are not there
			"route add default via 192.168.77.254", "route add ::/0 via fd77::fe",
		), n.run("ethtool", "-K", "eth0", "tx", "off"))
	}
	return errors.Join(errs...)
}

func (n *Node) run(args ...string) error {
	_, err := n.Run(args...)
	return err
}

// Close ends every program and removes the namespaces.
func (c *Cluster) Close() error {
	var errs []error
	var running []*process
	for _, n := range c.Nodes() {
		if n != nil {
			running = slices.AppendSeq(running, maps.Values(n.program))
		}
	}
	stop(running)
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

// putService adds or changes a NodePort service of each family, whose endpoint is the pod on B, in the forms that old
// and new kube-proxies read.
func (c *Cluster) putService() {
	for _, family := range c.Families() {
		name, kind, at := "web-"+family, strings.Replace(family, "ip", "IP", 1), c.B.in(family)
		meta := func() api.Object { return api.Object{"name": name, "namespace": "default"} }
		c.api.Put("services", api.Object{"metadata": meta(), "spec": api.Object{
			"type": "NodePort", "clusterIP": at.service.String(), "clusterIPs": []any{at.service.String()},
			"ipFamily": kind, "ipFamilies": []any{kind}, "ipFamilyPolicy": "SingleStack",
			"externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
			"ports": []any{api.Object{
				"name": "http", "protocol": "TCP", "port": 80, "targetPort": podPort, "nodePort": c.port,
			}},
		}})
		ports := []any{api.Object{"name": "http", "port": podPort, "protocol": "TCP"}}
		c.api.Put("endpoints", api.Object{"metadata": meta(), "subsets": []any{api.Object{
			"addresses": []any{api.Object{"ip": at.pod.String(), "nodeName": c.B.Name}}, "ports": ports,
		}}})
		slice := meta()
		slice["labels"] = api.Object{"kubernetes.io/service-name": name}
		c.api.Put("endpointslices", api.Object{
			"metadata": slice, "addressType": kind, "ports": ports,
			"endpoints": []any{api.Object{
				"addresses": []any{at.pod.String()}, "nodeName": c.B.Name,
				"conditions": api.Object{"ready": true, "serving": true},
			}},
		})
	}
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
