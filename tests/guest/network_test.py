#!/usr/bin/env python3
"""The network as a Debian guest and programs on the host see it: virtio-net and e1000 before every
kind of back end, with real peers.

The guest is Debian's disk, opened for reading alone, with a shell in init's place, and a Perl program
on a disk of its own that plays the guest's half."""

import hashlib
import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time
import unittest

from full_kernel import initrd, kernel_folder
from harness import SYSTEM, MachineTest
from console import Console

PROGRAM = pathlib.Path(__file__).parent / "programs" / "peer.pl"
MEBIBYTE = 1 << 20


def pattern(count):
    block = bytes(n % 251 for n in range(251 * 256))
    return (block * (count // len(block) + 1))[:count]


def md5(data):
    return hashlib.md5(data).hexdigest()


class Server:
    """A TCP server on the host: answers what comes with its sum, or gives out a pattern."""

    def __init__(self, give=0, family=socket.AF_INET, host="127.0.0.1"):
        self.give = give
        self.socket = socket.socket(family)
        self.socket.bind((host, 0))
        self.socket.listen()
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        with peer:
            if self.give:
                peer.sendall(pattern(self.give))
                return
            digest = hashlib.md5()
            while data := peer.recv(1 << 16):
                digest.update(data)
            peer.sendall(digest.hexdigest().encode())

    def close(self):
        self.socket.close()


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Guest:
    """A machine that stands at a shell, with its cards up and named eth0 and on. `full`: under the
    kernel for any hardware, which has the driver of an e1000."""

    def __init__(self, test, *words, dhcp=True, full=False):
        self.test = test
        folder = test.debian()
        kernel, ramdisk = folder / "vmlinuz", folder / "initrd.img"
        if full:
            if kernel_folder() is None:
                test.skipTest("the kernel for any hardware was not fetched yet")
            kernel = kernel_folder() / "vmlinuz"
            ramdisk = test.file("full-initrd.img", initrd(ramdisk, kernel_folder()))
        program = test.file(f"peer{id(self)}.img", PROGRAM.read_bytes().ljust(16384, b"\n"))
        self.console = Console([
            SYSTEM, "-m", "512M", "-display", "none", "-no-reboot", "-kernel",
            str(kernel), "-initrd", str(ramdisk), "-append",
            "console=ttyS0 quiet panic=-1 root=/dev/vda ro net.ifnames=0 init=/bin/bash", "-serial",
            "stdio", "-drive", f"file={folder}/disk.raw,format=raw,if=none,id=root,readonly=on",
            "-device", "virtio-blk-pci,drive=root", "-drive",
            f"file={program},format=raw,if=none,id=peer,readonly=on", "-device",
            "virtio-blk-pci,drive=peer", *words])
        test.addCleanup(self.console.close)
        self.console.expect(r":/# ", 600)
        self.console.type("stty -echo cols 400; bind 'set enable-bracketed-paste off'; PS1=; "
                          "export TERM=dumb PATH=/usr/sbin:/usr/bin:/sbin:/bin\n")
        self.run("mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp; "
                 f"{'' if full else 'modprobe virtio_net;'} ip link set lo up; "
                 "for i in 1 2 3 4 5 6 7 8 9; do test -e /sys/class/net/eth0 && break; sleep 1; done; "
                 "for n in /sys/class/net/eth*; do ip link set ${n##*/} up; done")
        if dhcp:
            self.lease = self.run("/usr/lib/klibc/bin/ipconfig -t 60 -c dhcp -d eth0 >/dev/null; "
                                  "cat /run/net-eth0.conf")

    def run(self, command):
        status, output = self.console.run(command, 180)
        self.test.assertEqual(status, 0, f"{command}: {output}")
        return output.strip()

    def peer(self, *words):
        """What the program answers, whatever its exit status."""
        return self.console.run("perl /dev/vdb " + " ".join(map(str, words)), 180)[1].strip()

    def start(self, *words):
        self.run("perl /dev/vdb " + " ".join(map(str, words)) + " >/tmp/out 2>&1 & sleep 1")

    def power_off(self):
        self.console.type("echo o >/proc/sysrq-trigger\n")
        self.test.assertEqual(self.console.wait(60), 0)


class Network(MachineTest):
    def server(self, **options):
        server = Server(**options)
        self.addCleanup(server.close)
        return server

    def exchange(self, guest, host, sink, source, count=4 * MEBIBYTE):
        """TCP both ways through `host`, which is this host as the guest sees it."""
        self.assertEqual(guest.peer("send", host, sink.port, count), md5(pattern(count)))
        self.assertEqual(guest.peer("receive", host, source.port), md5(pattern(source.give)))

    def test_user_network(self):
        """DHCP, DNS, TFTP, forwards both ways, IPv6: everything that -netdev user offers."""
        tcp, udp = free_port(), free_port(socket.SOCK_DGRAM)
        boot = self.folder / "boot"
        boot.mkdir()
        (boot / "image").write_bytes(pattern(100_000))
        guest = Guest(self, "-netdev",
                      f"user,id=n0,hostfwd=tcp:127.0.0.1:{tcp}-:7000,hostfwd=udp::{udp}-:7001,"
                      f"tftp={boot},bootfile=/image,hostname=visitor,domainname=example.test,"
                      "guestfwd=tcp:10.0.2.100:99-cmd:echo from the host",
                      "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:aa:bb:cc")
        for part in ("IPV4ADDR='10.0.2.15'", "IPV4GATEWAY='10.0.2.2'", "IPV4DNS0='10.0.2.3'",
                     "HOSTNAME='visitor'", "DNSDOMAIN='example.test'", "filename='/image'"):
            self.assertIn(part, guest.lease)
        self.assertEqual(guest.run("cat /sys/class/net/eth0/address"), "52:54:00:aa:bb:cc")
        self.exchange(guest, "10.0.2.2", self.server(), self.server(give=4 * MEBIBYTE))
        with self.subTest("forwarded to the guest"):
            guest.start("serve", 7000)
            with socket.create_connection(("127.0.0.1", tcp), 60) as peer:
                peer.sendall(pattern(MEBIBYTE))
                peer.shutdown(socket.SHUT_WR)
                self.assertEqual(peer.makefile().read(), md5(pattern(MEBIBYTE)))
            guest.start("udp-serve", 7001)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.settimeout(60)
                # Larger than a frame: it arrives in fragments.
                peer.sendto(pattern(4000), ("127.0.0.1", udp))
                self.assertEqual(peer.recv(100).decode(), md5(pattern(4000)))
        with self.subTest("forwarded to the host"):
            self.assertEqual(guest.peer("receive", "10.0.2.100", 99), md5(b"from the host\n"))
        with self.subTest("TFTP"):
            self.assertEqual(guest.peer("tftp", "10.0.2.2", "/image"), md5(pattern(100_000)))
            self.assertIn("error", guest.peer("tftp", "10.0.2.2", "/../secret"))
        with self.subTest("IPv6"):
            try:
                sink = self.server(family=socket.AF_INET6, host="::1")
            except OSError:
                self.skipTest("this host has no IPv6")
            for _ in range(30):
                if "tentative" not in guest.run("ip -6 addr show dev eth0 scope site"):
                    break
                time.sleep(1)
            self.exchange(guest, "fec0::2", sink,
                          self.server(give=MEBIBYTE, family=socket.AF_INET6, host="::1"))
        guest.power_off()

    def test_restricted_user_network(self):
        """restrict=on: nothing gets out; what is forwarded gets in."""
        port = free_port()
        server = self.server()
        guest = Guest(self, "-nic", f"user,model=virtio,restrict=on,net=192.168.76.0/24,"
                                    f"dhcpstart=192.168.76.9,hostfwd=tcp:127.0.0.1:{port}-:7000")
        self.assertIn("IPV4ADDR='192.168.76.9'", guest.lease)
        self.assertIn(guest.peer("send", "192.168.76.2", server.port, 10), ("refused", "timeout"))
        guest.start("serve", 7000)
        with socket.create_connection(("127.0.0.1", port), 60) as peer:
            peer.sendall(pattern(5000))
            peer.shutdown(socket.SHUT_WR)
            self.assertEqual(peer.makefile().read(), md5(pattern(5000)))
        guest.power_off()

    def test_tap(self):
        """Several queues before a tap device, with segments of 64 KiB in one piece."""
        if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
            self.skipTest("making a tap device takes root and /dev/net/tun")
        name = f"limen{os.getpid() % 100000}"
        up = self.folder / "up"
        up.write_text("#!/bin/sh\nip addr add 10.78.0.1/24 dev $1 && ip link set $1 up\n")
        up.chmod(0o755)
        guest = Guest(self, "-smp", "2", "-netdev",
                      f"tap,id=n0,ifname={name},script={up},downscript=no,queues=2", "-device",
                      "virtio-net-pci,netdev=n0,mq=on,host_mtu=1400", dhcp=False)
        guest.run("ip addr add 10.78.0.2/24 dev eth0")
        self.assertEqual(guest.run("ls -d /sys/class/net/eth0/queues/rx-* | wc -l"), "2")
        self.assertEqual(guest.run("cat /sys/class/net/eth0/mtu"), "1400")
        self.exchange(guest, "10.78.0.1", self.server(host="10.78.0.1"),
                      self.server(host="10.78.0.1", give=16 * MEBIBYTE), 16 * MEBIBYTE)
        # The kernel saw fewer frames than segments: they were not cut on the way.
        frames = int(pathlib.Path(f"/sys/class/net/{name}/statistics/rx_packets").read_text())
        self.assertLess(frames, 16 * MEBIBYTE // 1400)
        tagged = subprocess.run(["ip", "link", "add", "link", name, "name", f"{name}v", "type",
                                 "vlan", "id", "5"], capture_output=True, check=False)
        if tagged.returncode == 0:  # not every kernel has VLANs
            subprocess.run(f"ip addr add 10.79.0.1/24 dev {name}v && ip link set {name}v up",
                           shell=True, check=True)
            guest.run("ip link add link eth0 name v5 type vlan id 5 && ip link set v5 up && "
                      "ip addr add 10.79.0.2/24 dev v5")
            self.exchange(guest, "10.79.0.1", self.server(host="10.79.0.1"),
                          self.server(host="10.79.0.1", give=MEBIBYTE), MEBIBYTE)
        guest.power_off()
        self.assertFalse(os.path.exists(f"/sys/class/net/{name}"))

    def test_bridge(self):
        """A port of a bridge, from QEMU's own helper."""
        helper = "/usr/lib/qemu/qemu-bridge-helper"
        if not os.path.exists(helper):
            self.skipTest(f"{helper} is not there")
        if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
            self.skipTest("making a bridge takes root and /dev/net/tun")
        name = f"lbr{os.getpid() % 100000}"
        made = subprocess.run(["ip", "link", "add", name, "type", "bridge"], capture_output=True,
                              text=True, check=False)
        if made.returncode != 0:
            self.skipTest(f"no bridge: {made.stderr.strip()}")
        self.addCleanup(subprocess.run, ["ip", "link", "del", name], check=False)
        subprocess.run(f"ip addr add 10.80.0.1/24 dev {name} && ip link set {name} up", shell=True,
                       check=True)
        # The helper asks its configuration, which is this one in a mount namespace of its own.
        wrapper = self.folder / "helper"
        wrapper.write_text("#!/bin/sh\nexec unshare -m sh -c 'mount -t tmpfs none /etc && "
                           f"mkdir /etc/qemu && echo allow {name} >/etc/qemu/bridge.conf && "
                           f'exec {helper} "$@"\' helper "$@"\n')
        wrapper.chmod(0o755)
        guest = Guest(self, "-nic", f"bridge,br={name},helper={wrapper},model=virtio", dhcp=False)
        guest.run("ip addr add 10.80.0.2/24 dev eth0")
        self.assertEqual(len(os.listdir(f"/sys/class/net/{name}/brif")), 1)
        self.exchange(guest, "10.80.0.1", self.server(host="10.80.0.1"),
                      self.server(host="10.80.0.1", give=MEBIBYTE), MEBIBYTE)
        guest.power_off()
        self.assertEqual(os.listdir(f"/sys/class/net/{name}/brif"), [])

    def test_two_machines(self):
        """Frames between two machines over every kind of socket, a card for each."""
        path = self.folder
        stream, udp, other = free_port(), free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
        group = f"230.0.0.1:{free_port(socket.SOCK_DGRAM)}"
        first = [
            f"stream,id=n0,server=on,addr.type=unix,addr.path={path}/stream",
            f"dgram,id=n1,local.type=unix,local.path={path}/one,"
            f"remote.type=unix,remote.path={path}/two",
            f"socket,id=n2,listen=127.0.0.1:{stream}",
            f"dgram,id=n3,local.type=inet,local.host=127.0.0.1,local.port={udp},"
            f"remote.type=inet,remote.host=127.0.0.1,remote.port={other}",
            f"socket,id=n4,mcast={group},localaddr=127.0.0.1",
        ]
        second = [
            f"stream,id=n0,server=off,addr.type=unix,addr.path={path}/stream",
            f"dgram,id=n1,local.type=unix,local.path={path}/two,"
            f"remote.type=unix,remote.path={path}/one",
            f"socket,id=n2,connect=127.0.0.1:{stream}",
            f"socket,id=n3,udp=127.0.0.1:{udp},localaddr=127.0.0.1:{other}",
            f"socket,id=n4,mcast={group},localaddr=127.0.0.1",
        ]

        def cards(backends, last):
            words = []
            for number, backend in enumerate(backends):
                words += ["-netdev", backend, "-device",
                          f"virtio-net-pci,netdev=n{number},mac=52:54:00:00:0{number}:0{last}"]
            return words

        one = Guest(self, *cards(first, 1), dhcp=False)
        two = Guest(self, *cards(second, 2), dhcp=False)
        for number in range(len(first)):
            one.run(f"ip addr add 10.80.{number}.1/24 dev eth{number}")
            two.run(f"ip addr add 10.80.{number}.2/24 dev eth{number}")
        for number, kind in enumerate(first):
            with self.subTest(kind):
                one.start("serve", 7000 + number)
                self.assertEqual(two.peer("send", f"10.80.{number}.1", 7000 + number, MEBIBYTE),
                                 md5(pattern(MEBIBYTE)))
        # A peer that goes away leaves the other running.
        two.power_off()
        one.run("true")
        one.power_off()
        self.assertFalse((path / "stream").exists())

    def test_iperf3(self):
        """iperf3 in the guest and on the host, both ways, through each network that there can be."""
        if shutil.which("iperf3") is None:
            self.skipTest("iperf3 is not installed")
        bench = pathlib.Path(__file__).parents[2] / "scripts" / "bench-net"
        done = subprocess.run([bench, "--only", "limen", "--seconds", "1", "--rounds", "1",
                               "--guest", self.debian()], capture_output=True, text=True,
                              timeout=600, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = [line.split() for line in done.stdout.splitlines()[1:]]
        ways = ["user"] + (["tap"] if os.geteuid() == 0 and os.path.exists("/dev/net/tun") else [])
        self.assertEqual([row[:4] for row in rows],
                         [[way, *pair] for way in ways
                          for pair in (["guest", "to", "host"], ["host", "to", "guest"])])
        for row in rows:
            self.assertGreater(int(row[4]), 10, row)

    def test_passt(self):
        """passt, a user-mode network in a process of its own, as the peer of -netdev stream."""
        passt = shutil.which("passt")
        if passt is None:
            self.skipTest("passt is not installed")
        # passt puts itself into a sandbox that sees a folder of its own alone.
        path = self.folder / "passt.socket"
        port = free_port()
        words = [passt, "--foreground", "--one-off", "--socket", str(path), "--tcp-ports",
                 f"{port}:7000"]
        if os.geteuid() == 0:
            words += ["--runas", "0"]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   text=True)
        self.addCleanup(process.kill)
        for _ in range(100):
            if path.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        if not path.exists():
            self.skipTest(f"passt does not run here: {process.communicate()[1].strip()}")
        guest = Guest(self, "-netdev", f"stream,id=n0,server=off,addr.type=unix,addr.path={path}",
                      "-device", "virtio-net-pci,netdev=n0")
        gateway = [line.split("'")[1] for line in guest.lease.splitlines()
                   if line.startswith("IPV4GATEWAY")][0]
        # To passt the gateway's address is the host's loop-back.
        self.exchange(guest, gateway, self.server(), self.server(give=MEBIBYTE), MEBIBYTE)
        guest.start("serve", 7000)
        with socket.create_connection(("127.0.0.1", port), 60) as peer:
            peer.sendall(pattern(5000))
            peer.shutdown(socket.SHUT_WR)
            self.assertEqual(peer.makefile().read(), md5(pattern(5000)))
        guest.power_off()

    def test_e1000(self):
        """The card and the network of a machine for which nobody said anything of either."""
        guest = Guest(self, full=True)
        self.assertIn("IPV4ADDR='10.0.2.15'", guest.lease)
        self.assertEqual(guest.run("cat /sys/class/net/eth0/address"), "52:54:00:12:34:56")
        self.assertIn("e1000", guest.run("readlink /sys/class/net/eth0/device/driver"))
        self.assertEqual(guest.run("cat /sys/class/net/eth0/speed"), "1000")
        self.exchange(guest, "10.0.2.2", self.server(), self.server(give=16 * MEBIBYTE),
                      16 * MEBIBYTE)
        guest.run("ip link set eth0 down && ip link set eth0 mtu 9000 && ip link set eth0 up && "
                  "sleep 3 && ip route replace default via 10.0.2.2")
        self.exchange(guest, "10.0.2.2", self.server(), self.server(give=MEBIBYTE), MEBIBYTE)
        guest.power_off()

    def test_e1000_pair(self):
        """Two cards of one machine on a hub, with VLANs and a fragmented datagram between them."""
        guest = Guest(self, "-netdev", "hubport,id=h0,hubid=3", "-netdev", "hubport,id=h1,hubid=3",
                      "-device", "e1000,netdev=h0", "-device", "e1000,netdev=h1", dhcp=False,
                      full=True)
        guest.run("ip addr add 10.81.0.1/24 dev eth0; mount -t tmpfs none /run; "
                  "ip netns add other && ip link set eth1 netns other && "
                  "ip -n other addr add 10.81.0.2/24 dev eth1 && ip -n other link set eth1 up; "
                  "ip -n other link set lo up; sleep 2")
        guest.run("ip netns exec other perl /dev/vdb serve 7000 >/tmp/out 2>&1 & sleep 2")
        self.assertEqual(guest.peer("send", "10.81.0.2", 7000, MEBIBYTE), md5(pattern(MEBIBYTE)))
        guest.run("ip netns exec other perl /dev/vdb udp-serve 7001 >/tmp/out 2>&1 & sleep 2")
        self.assertEqual(guest.peer("udp", "10.81.0.2", 7001, 9000), md5(md5(pattern(9000)).encode()))
        guest.power_off()

    def test_hub(self):
        """-net: two cards and a user network on one hub."""
        guest = Guest(self, "-net", "nic,model=virtio", "-net", "nic,model=virtio", "-net", "user",
                      dhcp=True)
        self.assertIn("IPV4ADDR='10.0.2.15'", guest.lease)
        self.exchange(guest, "10.0.2.2", self.server(), self.server(give=MEBIBYTE), MEBIBYTE)
        self.assertIn("52:54:00:12:34:57", guest.run("cat /sys/class/net/eth1/address"))
        guest.power_off()


if __name__ == "__main__":
    unittest.main()
