package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/cluster/api"
	"vxlan_exporter/test/lab"
)

// process is a component that runs on a node.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	log    lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs a component on the node.
func (c *Cluster) start(n *Node, name string, env []string, args ...string) error {
	search, err := c.search()
	if err != nil {
		return err
	}
	args = append([]string{filepath.Join(c.bin, name)}, args...)
	p := &process{cmd: n.Cmd(context.Background(), args...), exited: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), "PATH="+search), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("%s on %s: %w", name, n.Name, err)
	}
	go func() {
		_ = p.cmd.Wait() // what it wrote tells more
		close(p.exited)
	}()
	n.program[name] = p
	return nil
}

// stop ends processes, and kills those that do not end by themselves: flannel 0.12 never does.
func stop(processes []*process) {
	for _, p := range processes {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	late := time.After(3 * time.Second)
	for _, p := range processes {
		select {
		case <-p.exited:
			continue
		case <-late:
		}
		for _, p := range processes {
			_ = p.cmd.Process.Kill()
		}
		<-p.exited
		late = nil
	}
}

// configure writes the components' configuration files.
func (c *Cluster) configure() error {
	networkConfig := api.Object{
		"Network": clusterCIDR, "EnableNFTables": c.o.FlannelNFT,
		"Backend": api.Object{"Type": "vxlan"},
	}
	cidr := clusterCIDR
	if c.o.DualStack {
		networkConfig["EnableIPv6"], networkConfig["IPv6Network"] = true, clusterCIDR6
		cidr += "," + clusterCIDR6
	}
	gates := api.Object{}
	if c.o.DualStack && c.o.Proxy == "kube-proxy-1.18" {
		gates["IPv6DualStack"] = true
	}
	errs := []error{c.write("net-conf.json", networkConfig)}
	for _, n := range c.Nodes() {
		errs = append(errs, c.write("kube-proxy-"+n.Name+".json", api.Object{
			"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
			"mode": c.o.Mode, "featureGates": gates,
			"clusterCIDR": cidr, "hostnameOverride": n.Name, "bindAddress": n.Addr.String(),
			"clientConnection":   api.Object{"kubeconfig": filepath.Join(c.folder, "kubeconfig")},
			"healthzBindAddress": n.Addr.String() + ":10256", "metricsBindAddress": n.Addr.String() + ":10249",
			"conntrack": api.Object{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
			"iptables": api.Object{
				"masqueradeBit": c.o.MasqueradeBit, "masqueradeAll": c.o.MasqueradeAll,
				"minSyncPeriod": "0s", "syncPeriod": "30s",
			},
			"nftables": api.Object{
				"masqueradeBit": c.o.MasqueradeBit, "masqueradeAll": c.o.MasqueradeAll,
				"minSyncPeriod": "0s", "syncPeriod": "30s",
			},
		}))
	}
	return errors.Join(append(errs, c.write("kubeconfig", api.Object{
		"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": []any{api.Object{"name": "c", "cluster": api.Object{"server": c.apiURL()}}},
		"contexts": []any{api.Object{"name": "c", "context": api.Object{"cluster": "c", "user": "u"}}},
		"users":    []any{api.Object{"name": "u", "user": api.Object{}}},
	}))...)
}

// Start runs the components on both nodes, in the cell's order, and waits until a request could be answered: the routes
// into the tunnel and the service's rules are there. Then the pods are attached.
func (c *Cluster) Start(ctx context.Context) error {
	for _, n := range c.Nodes() {
		if err := c.prepare(n); err != nil {
			return err
		}
	}
	steps := []func(context.Context) error{c.StartProxies, c.StartFlannel}
	if c.o.FlannelFirst {
		steps[0], steps[1] = steps[1], steps[0]
	}
	for _, step := range append(steps, c.attachPods) {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// prepare adds what is on a node besides Kubernetes.
func (c *Cluster) prepare(n *Node) error {
	var errs []error
	if c.o.Docker {
		iptables := "iptables-nft"
		if c.o.Legacy {
			iptables = "iptables-legacy"
		}
		errs = append(errs, n.IP("link add docker0 type bridge", "addr add 172.17.0.1/16 dev docker0", "link set docker0 up"),
			n.run(iptables, "-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16", "!", "-o", "docker0", "-j", "MASQUERADE"))
	}
	return errors.Join(errs...)
}

// StartProxies starts kube-proxy on both nodes and waits until its rules are there.
func (c *Cluster) StartProxies(ctx context.Context) error {
	for _, n := range c.Nodes() {
		if err := c.start(n, c.o.Proxy, nil, "--config="+filepath.Join(c.folder, "kube-proxy-"+n.Name+".json"),
			"--v=2"); err != nil {
			return err
		}
	}
	return c.awaitRules(ctx)
}

// awaitRules waits until kube-proxy's rules are those of the service as it is now.
func (c *Cluster) awaitRules(ctx context.Context) error {
	for _, n := range c.Nodes() {
		if err := c.await(ctx, n, c.o.Proxy, func() bool { return c.rulesThere(n) }); err != nil {
			return err
		}
	}
	return nil
}

// IP is how nft calls a family, and how the names of iptables' programs begin.
func IP(family string) string {
	if family == node.IPv6 {
		return "ip6"
	}
	return "ip"
}

func (c *Cluster) rulesThere(n *Node) bool {
	for _, family := range c.Families() {
		ip := IP(family)
		command := []string{ip + "tables-nft-save", "-t", "nat"}
		switch {
		case c.o.Mode == "nftables":
			command = []string{"nft", "list", "table", ip, "kube-proxy"}
		case c.o.Mode == "ipvs":
			command = []string{"ipvsadm", "-Ln"}
		case c.o.Legacy:
			command[0] = ip + "tables-legacy-save"
		}
		rules, err := n.Run(command...)
		if err != nil || !strings.Contains(rules, c.B.in(family).pod.String()) ||
			!strings.Contains(rules, fmt.Sprint(c.port)) {
			return false
		}
	}
	return true
}

// Resync changes the service, so that kube-proxy writes its rules again, and waits until it has.
func (c *Cluster) Resync(ctx context.Context) error {
	c.port++
	c.putService()
	return c.awaitRules(ctx)
}

// StartFlannel starts flannel on both nodes and waits until each has a route to the other's pods.
func (c *Cluster) StartFlannel(ctx context.Context) error {
	start := time.Now()
	for _, n := range c.Nodes() {
		args := []string{
			"--kube-subnet-mgr", "--kube-api-url=" + c.apiURL(), "--iface=eth0", "--v=2",
			"--net-config-path=" + filepath.Join(c.folder, "net-conf.json"), "--subnet-file=" +
				filepath.Join(c.folder, "subnet-"+n.Name),
		}
		if !c.o.NoMasquerade {
			args = append(args, "--ip-masq")
		}
		if err := c.start(n, c.o.Flannel, []string{"NODE_NAME=" + n.Name}, args...); err != nil {
			return err
		}
	}
	for i, n := range c.Nodes() {
		peer := c.Nodes()[1-i]
		err := c.await(ctx, n, c.o.Flannel, func() bool {
			for _, family := range c.Families() {
				to := peer.in(family)
				routes, err := n.Run("ip", "-"+strings.TrimPrefix(family, "ipv"), "route", "show", to.pods)
				if err != nil || !strings.Contains(routes, to.device) {
					return false
				}
			}
			written, err := os.Stat(filepath.Join(c.folder, "subnet-"+n.Name))
			return err == nil && written.ModTime().After(start)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// RestartProxies ends kube-proxy on both nodes and starts it again, as a crash does.
func (c *Cluster) RestartProxies(ctx context.Context) error { return c.ReplaceProxies(ctx, c.o.Proxy) }

// ReplaceProxies is RestartProxies with another version, as an upgrade does. The service changes meanwhile, so that
// what is waited for is the new one's work.
func (c *Cluster) ReplaceProxies(ctx context.Context, version string) error {
	c.stop(c.o.Proxy)
	c.o.Proxy = version
	c.port++
	c.putService()
	if err := c.configure(); err != nil {
		return err
	}
	return c.StartProxies(ctx)
}

// RestartFlannel ends flannel on both nodes and starts it again.
func (c *Cluster) RestartFlannel(ctx context.Context) error {
	c.stop(c.o.Flannel)
	return c.StartFlannel(ctx)
}

// RemakeDevice makes flannel's device on A anew while flannel is stopped, with the address that it has; flannel takes
// over what it finds. checksum is an option of ip link: udpcsum or noudpcsum.
func (c *Cluster) RemakeDevice(ctx context.Context, checksum string) error {
	c.stop(c.o.Flannel)
	mac, err := c.A.Run("cat", "/sys/class/net/flannel.1/address")
	if err == nil {
		err = c.A.IP("link del flannel.1", "link add flannel.1 address "+strings.TrimSpace(mac)+" type vxlan id 1 local "+
			c.A.Addr.String()+" dev eth0 dstport 8472 nolearning "+checksum)
	}
	if err != nil {
		return err
	}
	return c.StartFlannel(ctx)
}

func (c *Cluster) stop(name string) { stop([]*process{c.A.program[name], c.B.program[name]}) }

// await waits until done says so; a component that ends before that is an error, with what it wrote.
func (c *Cluster) await(ctx context.Context, n *Node, name string, done func() bool) error {
	p := n.program[name]
	for !done() {
		select {
		case <-p.exited:
			return fmt.Errorf("%s on %s ended: %s", name, n.Name, p.log.String())
		case <-ctx.Done():
			return fmt.Errorf("%s on %s: %w: %s", name, n.Name, ctx.Err(), p.log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// attachPods attaches one pod to each node as a container runtime would: by the CNI plugins bridge and portmap.
func (c *Cluster) attachPods(context.Context) error {
	for _, n := range c.Nodes() {
		var ranges, routes []any
		for _, family := range c.Families() {
			ranges = append(ranges, []any{api.Object{"subnet": n.in(family).pods}})
			routes = append(routes, api.Object{"dst": map[string]string{node.IPv4: "0.0.0.0/0", node.IPv6: "::/0"}[family]})
		}
		bridge := api.Object{
			"cniVersion": "0.4.0", "name": "cbr0", "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
			"ipMasq": c.o.BridgeIPMasq, "mtu": 1450,
			"ipam": api.Object{
				"type": "host-local", "dataDir": filepath.Join(c.folder, "ipam-"+n.Name),
				"ranges": ranges, "routes": routes,
			},
		}
		result, err := c.plugin(n, bridge)
		if err != nil {
			return err
		}
		if c.o.PortMap && n == c.A {
			portmap := api.Object{
				"cniVersion": "0.4.0", "name": "cbr0", "type": "portmap", "snat": true, "prevResult": result,
				"runtimeConfig": api.Object{"portMappings": []any{api.Object{
					"hostPort": 31080, "containerPort": podPort,
					"protocol": "tcp",
				}}},
			}
			if _, err := c.plugin(n, portmap); err != nil {
				return err
			}
		}
		for _, family := range c.Families() {
			if err := servePod(n.Pod, n.in(family).pod); err != nil {
				return err
			}
		}
	}
	return nil
}

// plugin runs one CNI plugin's ADD for the node's pod (https://www.cni.dev/docs/spec/) and returns its result.
func (c *Cluster) plugin(n *Node, conf api.Object) (api.Object, error) {
	search, err := c.search()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return addPod(n.Cmd(ctx, filepath.Join(c.bin, conf["type"].(string))), conf, []string{
		"PATH=" + search, "CNI_COMMAND=ADD", "CNI_CONTAINERID=pod-" + n.Name, "CNI_IFNAME=eth0", "CNI_PATH=" + c.bin,
		"CNI_NETNS=" + (&lab.NS{Name: n.Pod.Name}).Path(),
	})
}
