package kernelversion

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"vxlan_exporter/test/fuzz/bound"
)

type zeroCase struct {
	release, version, os string
	want                 string
}

// zeroCases are release strings of real kernels, one or more for each row of the table, and strings that no kernel has.
func zeroCases() []zeroCase {
	return []zeroCase{
		// Mainline and stable, as kernel.org's.
		{"6.18.44", "#1 SMP PREEMPT_DYNAMIC", "", Fixed},
		{"6.1.0", "", "", Fixed},
		{"5.10.1", "", "", Fixed},
		{"5.7.0", "", "", Fixed},
		{"5.7", "", "", Fixed},
		{"5.7.0-rc1", "", "", Unknown},
		{"5.7.0-rc7", "", "", Unknown},
		{"5.6.19", "", "", Fixed},
		{"5.6.13", "", "", Fixed},
		{"5.6.12", "", "", Affected},
		{"5.6.0-rc4", "", "", Unknown},
		{"5.5.19", "", "", Affected},
		{"5.4.41", "", "", Fixed},
		{"5.4.40", "", "", Affected},
		{"5.3.18", "", "", Affected},
		{"5.3.19", "", "", Unknown},
		{"5.0.0", "", "", Affected},
		{"4.20.17", "", "", Affected},
		{"4.19.123", "", "", Fixed},
		{"4.19.122", "", "", Affected},
		{"4.19.0", "", "", Affected},
		{"4.18.0", "", "", Affected},
		{"4.14.181", "", "", Fixed},
		{"4.14.180", "", "", Affected},
		{"4.12.14", "", "", Affected},
		{"4.9.224", "", "", Affected},
		{"4.9.337", "", "", Unknown},
		{"4.4.222", "", "", Affected},
		{"4.4.302", "", "", Unknown},
		{"3.18.140", "", "", Affected},
		{"3.16.83", "", "", Affected},
		{"3.16.85", "", "", Unknown},
		{"3.10.108", "", "", Affected},
		{"3.6.11", "", "", Unknown},
		// Built from a changed tree: the number proves the fix, not its absence.
		{"5.4.100+", "", "", Fixed},
		{"5.4.30+", "", "", Unknown},
		{"4.19.100-custom", "", "", Unknown},

		// RHEL 8 and its rebuilds.
		{"4.18.0-80.el8.x86_64", "#1 SMP Wed Mar 13 12:02:46 UTC 2019", "rhel", Affected},
		{"4.18.0-80.11.2.el8_0.x86_64", "#1 SMP Tue Sep 24 11:32:19 UTC 2019", "centos", Affected},
		{"4.18.0-80.30.1.el8_0.x86_64", "", "rhel", Unknown},
		{"4.18.0-147.el8.x86_64", "", "rhel", Affected},
		{"4.18.0-147.8.1.el8_1.x86_64", "#1 SMP Thu Apr 9 13:49:54 UTC 2020", "centos", Affected},
		{"4.18.0-147.20.1.el8_1.x86_64", "", "rhel", Affected},
		{"4.18.0-147.21.1.el8_1.x86_64", "", "rhel", Fixed},
		{"4.18.0-193.el8.x86_64", "#1 SMP Fri May 8 10:59:10 UTC 2020", "centos", Affected},
		{"4.18.0-193.6.3.el8_2.x86_64", "#1 SMP Wed Jun 10 11:09:32 UTC 2020", "centos", Affected},
		{"4.18.0-193.10.1.el8_2.x86_64", "", "rhel", Fixed},
		{"4.18.0-193.28.1.el8_2.aarch64", "#1 SMP Thu Oct 22 00:20:22 UTC 2020", "centos", Fixed},
		{"4.18.0-193.13.2.rt13.65.el8_2.x86_64", "#1 SMP PREEMPT RT Fri Jul 31 11:09:32 UTC 2020", "rhel", Fixed},
		{"4.18.0-193.6.3.rt13.59.el8_2.x86_64", "#1 SMP PREEMPT RT", "rhel", Affected},
		{"4.18.0-305.rt7.72.el8.x86_64", "#1 SMP PREEMPT_RT Thu Apr 29 14:03:09 EDT 2021", "rhel", Fixed},
		{"4.18.0-553.5.1.rt7.346.el8_10.x86_64", "#1 SMP PREEMPT_RT Tue May 21 03:13:04 EDT 2024", "rhel", Fixed},
		{"4.18.0-477.10.1.lve.1.el8.x86_64", "#1 SMP Tue Sep 26 14:55:00 UTC 2023", "cloudlinux", Fixed},
		{"3.10.0-962.3.2.lve1.5.63.el7.x86_64", "#1 SMP Thu Nov 25 05:37:10 EST 2021", "cloudlinux", Unknown},
		{"4.18.0-305.rtx.el8.x86_64", "", "rhel", Unknown},
		{"4.18.0-201.el8.x86_64", "", "centos", Affected},
		{"4.18.0-202.el8.x86_64", "", "centos", Fixed},
		{"4.18.0-240.15.1.el8_3.x86_64", "#1 SMP Mon Mar 1 17:16:16 UTC 2021", "centos", Fixed},
		{"4.18.0-305.3.1.el8_4.x86_64", "#1 SMP Tue Jun 1 16:14:33 UTC 2021", "rocky", Fixed},
		{"4.18.0-553.el8_10.x86_64", "#1 SMP Fri May 24 13:05:10 UTC 2024", "almalinux", Fixed},
		{"4.18.0-553.16.1.el8_10.x86_64+debug", "", "rocky", Fixed},
		{"4.18.0-193.6.3.el8uek.x86_64", "", "ol", Unknown},
		// RHEL 7 and its rebuilds.
		{"3.10.0-123.el7.x86_64", "#1 SMP Mon Jun 30 12:09:22 UTC 2014", "centos", Affected},
		{"3.10.0-693.21.1.el7.x86_64", "#1 SMP Wed Mar 7 19:03:37 UTC 2018", "centos", Affected},
		{"3.10.0-957.27.2.el7.x86_64", "#1 SMP Mon Jul 29 17:46:05 UTC 2019", "centos", Affected},
		{"3.10.0-957.86.1.el7.x86_64", "#1 SMP Thu Oct 14 17:46:05 UTC 2021", "rhel", Unknown},
		{"3.10.0-1062.18.1.el7.x86_64", "#1 SMP Tue Mar 17 23:49:17 UTC 2020", "centos", Affected},
		{"3.10.0-1127.el7.x86_64", "#1 SMP Tue Mar 31 23:36:51 UTC 2020", "centos", Affected},
		{"3.10.0-1127.13.1.el7.x86_64", "#1 SMP Tue Jun 23 15:46:38 UTC 2020", "centos", Affected},
		{"3.10.0-1127.19.1.el7.x86_64", "#1 SMP Tue Aug 25 17:23:54 UTC 2020", "centos", Unknown},
		{"3.10.0-1159.el7.x86_64", "", "rhel", Unknown},
		{"3.10.0-1160.el7.x86_64", "#1 SMP Mon Oct 19 16:18:59 UTC 2020", "centos", Fixed},
		{"3.10.0-1160.119.1.el7.x86_64", "", "rhel", Fixed},
		{"3.10.0-1127.18.2.vz7.163.15", "#1 SMP Mon Aug 10 17:38:37 MSK 2020", "virtuozzo", Unknown},
		{"4.14.0-115.el7a.aarch64", "#1 SMP Sat Mar 9 10:52:23 UTC 2019", "centos", Affected},
		{"4.14.0-115.29.1.el7a.ppc64le", "", "rhel", Unknown},
		{"2.6.32-754.35.1.el6.x86_64", "#1 SMP Sat Nov 7 12:42:14 UTC 2020", "centos", Unknown},
		// RHEL 9 and later.
		{"5.14.0-70.13.1.el9_0.x86_64", "#1 SMP PREEMPT Thu Apr 14 12:42:38 EDT 2022", "rhel", Fixed},
		{"5.14.0-427.13.1.el9_4.x86_64", "", "almalinux", Fixed},
		{"6.12.0-55.9.1.el10_0.x86_64", "", "rhel", Fixed},
		// Oracle's own kernels, and ELRepo's.
		{"4.14.35-1902.300.11.el7uek.x86_64", "#2 SMP Tue Mar 17 17:11:47 PDT 2020", "ol", Affected},
		{"5.4.17-2011.4.6.el8uek.x86_64", "#2 SMP Wed Jul 22 10:00:00 PDT 2020", "ol", Unknown},
		{"5.15.0-206.153.7.el9uek.x86_64", "", "ol", Fixed},
		{"4.4.241-1.el7.elrepo.x86_64", "#1 SMP Fri Oct 30 17:47:58 EDT 2020", "centos", Unknown},
		{"5.4.42-1.el7.elrepo.x86_64", "", "centos", Fixed},
		{"5.6.12-1.el7.elrepo.x86_64", "#1 SMP Sun May 10 09:34:08 EDT 2020", "centos", Affected},

		// Ubuntu.
		{"4.15.0-101-generic", "#102-Ubuntu SMP Mon May 11 10:07:26 UTC 2020", "ubuntu", Affected},
		{"4.15.0-106-generic", "#107-Ubuntu SMP Thu Jun 4 11:27:52 UTC 2020", "ubuntu", Affected},
		{"4.15.0-107-generic", "#108-Ubuntu SMP Mon Jun 8 17:51:33 UTC 2020", "ubuntu", Fixed},
		{"4.15.0-112-generic", "#113~16.04.1-Ubuntu SMP Fri Jul 10 04:37:08 UTC 2020", "ubuntu", Fixed},
		{"4.15.0-107-lowlatency", "#108-Ubuntu SMP PREEMPT Mon Jun 8 18:59:44 UTC 2020", "", Fixed},
		{"5.4.0-31-generic", "#35-Ubuntu SMP Thu May 7 20:20:34 UTC 2020", "ubuntu", Affected},
		{"5.4.0-32-generic", "#36-Ubuntu SMP", "ubuntu", Fixed},
		{"5.4.0-37-generic", "#41~18.04.1-Ubuntu SMP Fri Jun 5 14:58:57 UTC 2020", "ubuntu", Fixed},
		{"5.4.0-42-generic", "", "ubuntu", Fixed},
		{"5.4.0-42-generic", "", "", Unknown},
		{"5.4.0-1011-aws", "#11-Ubuntu SMP Wed May 13 17:28:45 UTC 2020", "ubuntu", Unknown},
		{"4.15.0-1066-aws", "#70-Ubuntu SMP Tue Apr 14 10:14:00 UTC 2020", "ubuntu", Affected},
		{"5.3.0-1032-azure", "#33~18.04.1-Ubuntu SMP Fri Jun 26 15:01:15 UTC 2020", "ubuntu", Unknown},
		{"5.4.0-1018-gcp", "#18-Ubuntu SMP Wed Jul 8 22:08:14 UTC 2020", "ubuntu", Unknown},
		{"5.4.0-1103-aws", "#111~18.04.1-Ubuntu SMP Tue May 23 20:04:10 UTC 2023", "ubuntu", Fixed},
		{"5.4.0-1103-aws", "#111~18.04.1-Ubuntu SMP", "ubuntu", Unknown},
		{"5.4.0-1046-raspi", "#50-Ubuntu SMP PREEMPT Thu Oct 28 05:32:10 UTC 2021", "ubuntu", Fixed},
		{"4.15.0-1169-aws", "#182-Ubuntu SMP Fri Mar 15 21:34:36 UTC 2024", "ubuntu", Fixed},
		{"4.15.0-1088-azure", "#98~16.04.1-Ubuntu SMP Wed Jun 3 16:06:38 UTC 2020", "ubuntu", Unknown},
		{"5.4.0-1103-aws", "#111 SMP Tue May 23 20:04:10 UTC 2023", "debian", Unknown},
		{"5.3.0-46-generic", "#38-Ubuntu SMP Fri Mar 27 17:37:05 UTC 2020", "ubuntu", Affected},
		{"5.3.0-62-generic", "#56-Ubuntu SMP Tue Jun 23 11:20:52 UTC 2020", "ubuntu", Unknown},
		{"4.4.0-177-generic", "#207-Ubuntu SMP Mon Mar 16 01:16:10 UTC 2020", "ubuntu", Affected},
		{"4.4.0-210-generic", "#242-Ubuntu SMP Fri Apr 16 09:57:56 UTC 2021", "ubuntu", Unknown},
		{"5.8.0-23-generic", "#24-Ubuntu SMP Fri Oct 9 18:49:08 UTC 2020", "ubuntu", Fixed},
		{"6.8.0-31-generic", "#31-Ubuntu SMP PREEMPT_DYNAMIC Sat Apr 20 00:40:06 UTC 2024", "ubuntu", Fixed},
		{"5.4.0-7634-generic", "#38~1592497129~20.04~9a1ea2e-Ubuntu SMP Thu Jun 18 17:43:00 UTC 2020", "pop", Unknown},
		{"5.4.41-050441-generic", "#202005140730 SMP Thu May 14 11:33:56 UTC 2020", "ubuntu", Fixed},
		{"5.6.12-050612-generic", "#202005100530 SMP Sun May 10 09:33:35 UTC 2020", "ubuntu", Affected},

		// Debian: the ABI name in the release says nothing, the package version does.
		{"4.19.0-8-amd64", "#1 SMP Debian 4.19.98-1 (2020-01-26)", "debian", Affected},
		{"4.19.0-9-amd64", "#1 SMP Debian 4.19.118-2+deb10u1 (2020-06-07)", "debian", Unknown},
		{"4.19.0-10-amd64", "#1 SMP Debian 4.19.132-1 (2020-07-24)", "debian", Fixed},
		{"4.19.0-10-amd64", "#1 SMP", "debian", Unknown},
		{"4.19.0-0.bpo.9-amd64", "#1 SMP Debian 4.19.118-2~bpo9+1 (2020-05-20)", "debian", Unknown},
		{"4.9.0-12-amd64", "#1 SMP Debian 4.9.210-1 (2020-01-20)", "debian", Affected},
		{"4.9.0-13-amd64", "#1 SMP Debian 4.9.228-1 (2020-07-05)", "debian", Unknown},
		{"5.5.0-0.bpo.2-amd64", "#1 SMP Debian 5.5.17-1~bpo10+1 (2020-04-23)", "debian", Affected},
		{"5.6.0-2-amd64", "#1 SMP Debian 5.6.14-1 (2020-05-23)", "debian", Fixed},
		{"5.6.0-1-amd64", "#1 SMP Debian 5.6.7-1 (2020-04-29)", "debian", Unknown},
		{"6.1.0-21-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.90-1 (2024-05-03)", "debian", Fixed},
		{"3.16.0-10-amd64", "#1 SMP Debian 3.16.81-1 (2020-01-17)", "debian", Affected},

		// Those that carry kernel.org's number.
		{"4.14.171-136.231.amzn2.x86_64", "#1 SMP Thu Feb 27 20:22:48 UTC 2020", "amzn", Affected},
		{"4.14.177-139.254.amzn2.x86_64", "#1 SMP Thu May 7 18:48:23 UTC 2020", "amzn", Unknown},
		{"4.14.181-140.257.amzn2.x86_64", "#1 SMP Wed May 27 02:17:36 UTC 2020", "amzn", Fixed},
		{"4.14.268-205.500.amzn2.x86_64", "", "amzn", Fixed},
		{"4.14.173-106.229.amzn1.x86_64", "", "amzn", Affected},
		{"5.4.68-34.125.amzn2.x86_64", "", "amzn", Fixed},
		{"6.1.90-99.173.amzn2023.x86_64", "", "amzn", Fixed},
		{"4.19.107-flatcar", "#1 SMP Mon Mar 2 18:00:00 -00 2020", "flatcar", Affected},
		{"4.19.118-flatcar", "#1 SMP Wed May 13 10:30:00 -00 2020", "flatcar", Unknown},
		{"4.19.124-flatcar", "#1 SMP Thu May 28 15:00:00 -00 2020", "flatcar", Fixed},
		{"5.15.63-flatcar", "", "flatcar", Fixed},
		{"4.19.86-coreos", "#1 SMP Mon Dec 2 20:13:38 -00 2019", "coreos", Affected},
		{"4.19.112+", "#1 SMP Sat Apr 4 06:25:58 PDT 2020", "cos", Affected},
		{"4.19.112+", "#1 SMP Fri Sep 4 12:00:04 PDT 2020", "cos", Unknown},
		{"5.4.49+", "#1 SMP Wed Sep 23 19:45:38 PDT 2020", "cos", Fixed},
		{"5.6.19-300.fc32.x86_64", "#1 SMP Wed Jun 17 16:10:48 UTC 2020", "fedora", Fixed},
		{"5.6.8-200.fc31.x86_64", "#1 SMP Wed Apr 29 19:05:06 UTC 2020", "fedora", Unknown},
		{"5.4.8-200.fc31.x86_64", "", "fedora", Affected},
		{"5.6.13-talos", "", "talos", Fixed},
		{"6.6.29-talos", "#1 SMP PREEMPT_DYNAMIC", "talos", Fixed},
		{"4.19.97-v7l+", "#1294 SMP Thu Jan 30 13:21:14 GMT 2020", "raspbian", Affected},
		{"4.19.118-v7+", "#1311 SMP Mon Apr 27 14:21:24 BST 2020", "raspbian", Unknown},
		{"5.4.51-v8+", "#1333 SMP PREEMPT Mon Aug 10 16:58:35 BST 2020", "raspbian", Fixed},
		{"6.6.20+rpt-rpi-v8", "#1 SMP PREEMPT Debian 1:6.6.20-1+rpt1 (2024-03-07)", "raspbian", Fixed},
		{"4.19.76-linuxkit", "#1 SMP Thu Oct 17 19:31:58 UTC 2019", "", Affected},
		{"4.14.138-rancher", "", "rancheros", Affected},
		{"5.4.43-1-virt", "#2-Alpine SMP Thu, 28 May 2020 20:13:48 UTC", "alpine", Fixed},
		{"4.19.115-3.ph3", "#1-photon SMP Wed Apr 22 08:57:02 UTC 2020", "photon", Affected},
		{"5.6.13-arch1-1", "#1 SMP PREEMPT Thu, 14 May 2020 06:52:53 +0000", "arch", Fixed},

		// Those that do not: only what is certain.
		{"4.12.14-120-default", "#1 SMP Thu Nov 7 16:39:09 UTC 2019 (fd9dc36)", "sles", Affected},
		{"4.12.14-122.37-default", "#1 SMP Mon Aug 24 15:00:00 UTC 2020 (fa9f8b7)", "sles", Unknown},
		{"5.3.18-24.37-default", "#1 SMP Wed Nov 4 09:38:41 UTC 2020 (c5b8b95)", "sles", Unknown},
		{"5.3.18-22-default", "#1 SMP Wed Jun 3 12:16:43 UTC 2020 (720aeba)", "sles", Unknown},
		{"5.14.21-150500.53-default", "#1 SMP PREEMPT_DYNAMIC Wed May 10 07:56:26 UTC 2023 (b630043)", "sles", Fixed},
		{"4.15.18-26-pve", "#1 SMP PVE 4.15.18-54 (Sat, 15 Feb 2020 15:34:24 +0100)", "debian", Affected},
		{"5.4.34-1-pve", "#1 SMP PVE 5.4.34-2 (Thu, 07 May 2020 10:02:02 +0200)", "debian", Affected},
		{"5.4.41-1-pve", "#1 SMP PVE 5.4.41-1 (Fri, 15 May 2020 15:06:08 +0200)", "debian", Fixed},
		{"5.4.44-2-pve", "#1 SMP PVE 5.4.44-2 (Wed, 01 Jul 2020 16:37:57 +0200)", "debian", Fixed},
		{"5.4.203-1-pve", "#1 SMP PVE 5.4.203-1 (Fri, 26 Aug 2022 14:43:35 +0200)", "debian", Fixed},
		{"4.15.18-30-pve", "#1 SMP PVE 4.15.18-58 (Fri, 12 Jun 2020 13:53:01 +0200)", "debian", Unknown},
		{"6.8.4-2-pve", "#1 SMP PREEMPT_DYNAMIC PMX 6.8.4-2 (2024-04-10T17:36Z)", "debian", Fixed},
		{"4.19.90-2003.4.0.0036.oe1.x86_64", "#1 SMP Mon Mar 23 19:10:41 UTC 2020", "openEuler", Affected},
		{"4.19.90-2112.8.0.0131.oe1.aarch64", "", "openEuler", Unknown},
		{"4.19.91-25.7.al7.x86_64", "", "alinux", Unknown},
		{"4.19.128-microsoft-standard", "#1 SMP Tue Jun 23 12:58:10 UTC 2020", "ubuntu", Fixed},
		{"4.19.104-microsoft-standard", "#1 SMP Wed Feb 19 06:37:35 UTC 2020", "ubuntu", Affected},
		{"5.4.72-microsoft-standard-WSL2", "#1 SMP Wed Oct 28 23:40:43 UTC 2020", "ubuntu", Fixed},
		{"4.19.113-300.el7.x86_64", "#1 SMP Tue Mar 31 10:21:33 UTC 2020", "centos", Affected},
		{"5.15.90.1-microsoft-standard-WSL2", "#1 SMP Fri Jan 27 02:56:13 UTC 2023", "ubuntu", Fixed},
		{"4.4.180+", "#42962 SMP Tue Apr 18 12:00:00 CST 2023", "synology", Unknown},
		{"4.4.0", "#1 SMP Sun Jan 10 15:06:54 PST 2016", "", Unknown},
		{"4.19.0-gvisor", "#1 SMP Sun Jan 10 15:06:54 PST 2016", "", Unknown},
		// A reproducible build's date proves nothing.
		{"4.19.150-vendor", "#1-NixOS SMP Tue Jan 1 00:00:00 UTC 1980", "nixos", Unknown},
		{"4.19.150-vendor", "#1 SMP Thu Jan 1 00:00:01 UTC 1970", "", Unknown},

		// Not a kernel's at all.
		{"", "", "", Unknown},
		{"5", "", "", Unknown},
		{".", "", "", Unknown},
		{"-", "", "", Unknown},
		{"5.", "", "", Unknown},
		{"5..4", "", "", Unknown},
		{"v5.4.41", "", "", Unknown},
		{"five.four", "", "", Unknown},
		{"5.4x", "", "", Unknown},
		{"-5.4.41", "", "", Unknown},
		{"99999999999999999999.1.2", "", "", Unknown},
		{"5.99999999999999999999", "", "", Unknown},
		{"4.18.0-99999999999999999999.el8.x86_64", "", "", Unknown},
		{"4.18.0-.el8", "", "", Unknown},
		{"4.15.0--generic", "#-Ubuntu", "ubuntu", Unknown},
		{"4.19.0-9-amd64", "#1 SMP Debian", "debian", Unknown},
		{"4.19.0-9-amd64", "#1 SMP Debian Debian", "debian", Unknown},
		{"5.4.41\x00", "", "", Unknown},
		{"5.4\n.41", "", "", Unknown},
		{strings.Repeat("5.", 1<<16), "", "", Unknown},
		{"5.4.41" + strings.Repeat("a", 4096), "", "", Unknown},
		{"4.19.100-vendor", "Jan", "", Unknown},
		{"4.19.100-vendor", "#1 SMP Feb 30 2019", "", Unknown},
		{"4.19.100-vendor", strings.Repeat("Jan ", 1<<12), "", Unknown},
	}
}

func (c zeroCase) info() Info {
	info := Info{Release: c.release, Version: c.version}
	if c.os != "" {
		info.OS = map[string]string{"ID": c.os}
	}
	return info
}

func TestZeroChecksum(t *testing.T) {
	for _, c := range zeroCases() {
		got := ZeroChecksum(c.info())
		if got.Verdict != c.want {
			t.Errorf("%.80q %.80q %s: %s (%s), want %s", c.release, c.version, c.os, got.Verdict, got.Reason, c.want)
		}
		if got.Reason == "" || len(got.Reason) > 200 {
			t.Errorf("%.80q: reason %q", c.release, got.Reason)
		}
		if got.Verdict != Unknown && got.Source == "" {
			t.Errorf("%.80q: %s without a source", c.release, got.Verdict)
		}
	}
}

func TestOffloadedChecksum(t *testing.T) {
	for _, c := range []zeroCase{
		{"6.18.44", "", "", Affected},
		{"6.18.0-rc3", "", "", Affected},
		{"6.1.0-21-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.90-1 (2024-05-03)", "debian", Affected},
		{"5.14.0-427.13.1.el9_4.x86_64", "", "rhel", Affected},
		{"5.7.0-rc1", "", "", Affected},
		{"4.18.0-553.el8_10.x86_64", "", "rhel", Affected},
		{"4.19.123", "", "", Affected},
		{"4.6.0", "", "", Affected},
		{"4.5.7", "", "", Unknown},
		{"3.10.0-1160.el7.x86_64", "", "centos", Affected},
		{"3.10.0-1127.el7.x86_64", "", "centos", Affected},
		{"3.10.0-1062.el7.x86_64", "", "centos", Unknown},
		{"3.10.108", "", "", Unknown},
		{"6.19.0", "", "", Unknown},
		{"7.2.0", "", "", Unknown},
		{"2.6.32-754.35.1.el6.x86_64", "", "centos", Unknown},
		{"4.4.0", "#1 SMP Sun Jan 10 15:06:54 PST 2016", "", Unknown},
		{"nonsense", "", "", Unknown},
	} {
		if got := OffloadedChecksum(c.info()); got.Verdict != c.want || got.Reason == "" {
			t.Errorf("%q: %s (%s), want %s", c.release, got.Verdict, got.Reason, c.want)
		}
	}
	for _, c := range zeroCases() {
		if got := OffloadedChecksum(c.info()); got.Verdict == Fixed {
			t.Errorf("%.80q: fixed by version: %s", c.release, got.Reason)
		}
	}
}

// TestNewerIsNeverWorse walks each row of builds upwards: once fixed, it stays so, and the bound itself is where it
// turns.
func TestNewerIsNeverWorse(t *testing.T) {
	for _, row := range table().Builds {
		for _, s := range row.Streams {
			if s.FixedFrom == nil {
				continue
			}
			last := slices.Clone(s.FixedFrom)
			last[len(last)-1]--
			if v := row.judge(s, kernel{base: row.Base, build: last}); v.Verdict == Fixed {
				t.Errorf("%s: %v is %s", row.Name, last, v.Verdict)
			}
			if v := row.judge(s, kernel{base: row.Base, build: s.FixedFrom}); v.Verdict != Fixed {
				t.Errorf("%s: %v is %s", row.Name, s.FixedFrom, v.Verdict)
			}
		}
	}
}

func TestTableIsSourced(t *testing.T) {
	// A field that is misspelled would be passed over.
	strict := json.NewDecoder(bytes.NewReader(tableJSON))
	strict.DisallowUnknownFields()
	if err := strict.Decode(new(tables)); err != nil {
		t.Error(err)
	}
	seen := map[version]bool{}
	for _, s := range table().Stable {
		if s.Source == "" || seen[s.Series] || s.Early > s.Unfixed || s.Fixed != 0 && s.Fixed != s.Unfixed+1 {
			t.Errorf("%+v", s)
		}
		seen[s.Series] = true
	}
	for minor := 7; minor <= 19; minor++ {
		if !seen[version{3, minor}] {
			t.Errorf("no row for 3.%d", minor)
		}
	}
	for minor := 0; minor <= 20; minor++ {
		if !seen[version{4, minor}] {
			t.Errorf("no row for 4.%d", minor)
		}
	}
	for minor := 0; minor <= 6; minor++ {
		if !seen[version{5, minor}] {
			t.Errorf("no row for 5.%d", minor)
		}
	}
	for _, b := range table().Builds {
		if b.Source == "" || b.Name == "" || len(b.Streams) == 0 {
			t.Errorf("%+v", b)
		}
		for _, s := range b.Streams {
			if len(s.AffectedBelow) == 0 {
				t.Errorf("%s: %+v", b.Name, s)
			}
		}
	}
	for _, f := range table().Followers {
		if f.Source == "" || f.Name == "" || f.Part == "" && f.End == "" {
			t.Errorf("%+v", f)
		}
	}
}

func FuzzVerdicts(f *testing.F) {
	for _, c := range zeroCases() {
		if len(c.release) < 128 && len(c.version) < 128 {
			f.Add(c.release, c.version, c.os)
		}
	}
	f.Fuzz(func(t *testing.T, release, version, os string) {
		info := Info{Release: release, Version: version, OS: map[string]string{"ID": os}}
		var a, b Verdict
		bound.Read(t, len(release)+len(version)+len(os), 64, 0, func() { a, b = ZeroChecksum(info), OffloadedChecksum(info) })
		for _, v := range []Verdict{a, b} {
			if v.Verdict != Affected && v.Verdict != Fixed && v.Verdict != Unknown {
				t.Errorf("verdict %q", v.Verdict)
			}
			if v.Reason == "" || len(v.Reason) > 1024 || utf8.ValidString(release) && !utf8.ValidString(v.Reason) {
				t.Errorf("reason %q", v.Reason)
			}
		}
		if b.Verdict == Fixed {
			t.Error("B is never fixed by version")
		}
	})
}

func TestSeries(t *testing.T) {
	for _, c := range []struct {
		release       string
		before, fully bool // 4.18
	}{
		{"3.10.108", true, false},
		{"3.10.0", true, false},
		{"3.10.0-1127.el7.x86_64", true, true},
		{"3.13.11", true, false},
		{"3.14.0", true, true},
		{"4.17.19", true, true},
		{"4.18.0-80.el8.x86_64", false, true},
		{"6.18.44", false, true},
		{"", false, true},
		{"x", false, true},
	} {
		if before, fully := Before(c.release, 4, 18), HasFullyRandom(c.release); before != c.before || fully != c.fully {
			t.Errorf("%q: before 4.18 %v, fully random %v", c.release, before, fully)
		}
	}
}
