#!/usr/bin/env python3
"""What comes and goes while Debian runs, through the monitor: network cards and what stands behind
them, cables, NMIs, keys; and Debian's guest agent on a virtio-serial port."""

import base64
import json
import socket
import time
import unittest

from harness import SYSTEM, MachineTest
from agent_disk import COMMAND, agent_disk
from console import Console
from monitor_test import Qmp
from network_test import Guest


class Agent:
    """A client of qemu-guest-agent's (its protocol: qga/qapi-schema.json)."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(120)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")
        # Whatever the agent has half-read of an earlier client ends at the byte FF.
        number = time.monotonic_ns() & 0x7FFFFFFF
        self.socket.sendall(b"\xff" + json.dumps({
            "execute": "guest-sync-delimited", "arguments": {"id": number}}).encode() + b"\n")
        while True:
            line = self.file.readline()
            if not line:
                raise AssertionError("the port was closed")
            text = line.rpartition(b"\xff")[2]
            try:
                if json.loads(text).get("return") == number:
                    return
            except (ValueError, AttributeError):
                pass

    def command(self, name, **arguments):
        self.socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        reply = json.loads(self.file.readline())
        if "return" not in reply:
            raise AssertionError(reply)
        return reply["return"]

    def run(self, *words):
        pid = self.command("guest-exec", path=words[0], arg=list(words[1:]),
                           **{"capture-output": True})["pid"]
        end = time.monotonic() + 120
        while True:
            status = self.command("guest-exec-status", pid=pid)
            if status["exited"]:
                return status["exitcode"], base64.b64decode(status.get("out-data", ""))
            if time.monotonic() > end:
                raise AssertionError(f"{words} does not end")
            time.sleep(0.2)

    def close(self):
        self.file.close()
        self.socket.close()


class DeviceCommands(MachineTest):
    def connect(self):
        client = Qmp(self.qmp_path, timeout=60)
        self.addCleanup(client.close)
        return client

    def in_guest(self, command):
        status, output = self.machine.run(command, 180)
        self.assertEqual(status, 0, f"{command}: {output}")
        return output.strip()

    def wait_in_guest(self, condition):
        self.in_guest(f"n=0; until {condition} || [ $n = 40 ]; do n=$((n+1)); sleep 0.5; done; "
                      f"{condition}")

    def set_link(self, client, device, up):
        reply = client.ask({"execute": "set_link", "arguments": {"name": device, "up": up}})
        self.assertEqual(reply, {"return": {}})

    def refused(self, client, name, **arguments):
        reply = client.ask({"execute": name, "arguments": arguments})
        self.assertIn("error", reply)
        return reply["error"]["desc"]

    def test_devices_come_and_go_and_the_agent_answers(self):
        guest, tools = self.debian(), agent_disk()
        if tools is None:
            self.skipTest("Debian's qemu-guest-agent cannot be had")
        self.qmp_path = str(self.folder / "qmp.sock")
        agent_path = str(self.folder / "agent.sock")
        self.machine = Console([
            SYSTEM, "-M", "q35", "-m", "512M", "-smp", "2", "-nographic", "-nic", "none", "-kernel",
            str(guest / "vmlinuz"), "-initrd", str(guest / "initrd.img"), "-append",
            "root=/dev/vda rw console=ttyS0 net.ifnames=0", "-snapshot", "-drive",
            f"file={guest}/disk.raw,format=raw,if=virtio", "-drive",
            f"file={tools},format=raw,if=virtio", "-qmp", f"unix:{self.qmp_path},server=on,wait=off",
            "-device", "pcie-root-port,id=rp1,chassis=1", "-device", "pcie-root-port,id=rp2,chassis=2",
            "-device", "virtio-serial-pci,id=serial", "-chardev",
            f"socket,path={agent_path},server=on,wait=off,id=qga0", "-device",
            "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0,id=channel0"])
        self.addCleanup(self.machine.close)
        self.machine.wait_for_login(600)
        self.machine.log_in("root", "limen", 300)
        qmp = self.connect()
        self.agent(qmp, agent_path)
        self.network_cards(qmp)
        self.events(qmp)
        agent = Agent(agent_path)
        agent.socket.sendall(b'{"execute":"guest-shutdown","arguments":{"mode":"powerdown"}}\n')
        self.assertEqual(qmp.wait_event("SHUTDOWN")["data"]["reason"], "guest-shutdown")
        agent.close()
        self.assertEqual(self.machine.wait(120), 0)
        self.assertNotRegex(self.machine.text, "segfault|BUG:|soft lockup")

    def agent(self, qmp, path):
        self.in_guest("mount -o ro /dev/vdb /mnt && udevadm settle && "
                      "test -e /dev/virtio-ports/org.qemu.guest_agent.0")
        self.in_guest(f"{COMMAND} -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 "
                      "-t /run -f /run/agent.pid -d")
        self.assertEqual(qmp.wait_event("VSERPORT_CHANGE")["data"], {"id": "channel0", "open": True})
        agent = Agent(path)
        self.assertRegex(agent.command("guest-info")["version"], r"^7\.2")
        self.assertEqual(agent.run("/bin/echo", "hello"), (0, b"hello\n"))
        handle = agent.command("guest-file-open", path="/root/file", mode="w+")
        text = base64.b64encode(b"from the host\n" * 1000).decode()
        self.assertEqual(agent.command("guest-file-write", handle=handle, **{"buf-b64": text})["count"],
                         14000)
        agent.command("guest-file-close", handle=handle)
        self.assertEqual(self.in_guest("wc -c </root/file; head -n 1 /root/file").split(None, 1),
                         ["14000", "from the host"])
        agent.close()
        self.clients_vanish(path)

    def clients_vanish(self, path):
        half = socket.socket(socket.AF_UNIX)
        half.connect(path)
        half.sendall(b'{"execute": "guest-pi')
        half.close()
        agent = Agent(path)
        agent.command("guest-ping")
        # A large answer that is read slowly arrives whole.
        self.in_guest("seq 1 500000 >/root/many")
        handle = agent.command("guest-file-open", path="/root/many", mode="r")
        size = 4 << 20
        agent.socket.sendall(json.dumps({"execute": "guest-file-read", "arguments": {
            "handle": handle, "count": size}}).encode() + b"\n")
        time.sleep(2)
        answer = json.loads(agent.file.readline())["return"]
        self.assertEqual(base64.b64decode(answer["buf-b64"]),
                         "".join(f"{n}\n" for n in range(1, 500001)).encode()[:size])
        agent.close()
        flood = socket.socket(socket.AF_UNIX)
        flood.connect(path)
        flood.settimeout(2)
        try:
            for _ in range(200):
                flood.sendall(b'{"execute":"guest-info"}\n' * 100)
        except TimeoutError:
            pass
        flood.close()
        agent = Agent(path)
        agent.command("guest-ping")
        agent.close()

    def network_cards(self, qmp):
        qmp.command("netdev_add", type="user", id="n0", hostfwd=[{"str": "tcp:127.0.0.1:0-:22"}])
        self.assertIn("Duplicate", self.refused(qmp, "netdev_add", type="user", id="n0"))
        qmp.command("device_add", driver="virtio-net-pci", id="card0", netdev="n0", bus="rp1")
        self.assertIn("in use", self.refused(qmp, "device_add", driver="virtio-net-pci", netdev="n0",
                                             bus="rp2"))
        self.wait_in_guest("test -e /sys/class/net/eth0")
        self.in_guest("ip link set eth0 up; "
                      "/usr/lib/klibc/bin/ipconfig -t 60 -c dhcp -d eth0 >/dev/null")
        self.assertIn("10.0.2.15", self.in_guest("ip -4 addr show dev eth0"))
        text = qmp.command("human-monitor-command", **{"command-line": "info network"})
        self.assertRegex(text, r"card0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56"
                               "\r\n \\\\ n0: index=0,type=user,net=10.0.2.0,restrict=off")
        self.assertIn("TCP[HOST_FORWARD]", qmp.command(
            "human-monitor-command", **{"command-line": "info usernet"}))
        behind = [device for device in qmp.command("query-pci")[0]["devices"]
                  if device["qdev_id"] == "rp1"][0]["pci_bridge"]["devices"]
        self.assertEqual([device["qdev_id"] for device in behind], ["card0"])
        self.assertIn("card0", [each["name"] for each in
                                qmp.command("qom-list", path="/machine/peripheral")])
        for name in ("n0", "card0"):
            self.set_link(qmp, name, False)
            self.wait_in_guest("[ $(cat /sys/class/net/eth0/carrier) = 0 ]")
            self.set_link(qmp, name, True)
            self.wait_in_guest("[ $(cat /sys/class/net/eth0/carrier) = 1 ]")
        qmp.command("device_del", id="card0")
        self.assertEqual(qmp.wait_event("DEVICE_DELETED")["data"],
                         {"device": "card0", "path": "/machine/peripheral/card0"})
        self.wait_in_guest("test ! -e /sys/class/net/eth0")
        qmp.command("netdev_del", id="n0")
        self.assertEqual(self.refused(qmp, "netdev_del", id="n0"), "Device 'n0' not found")
        self.assertEqual(self.refused(qmp, "device_del", id="card0"),
                         "Device 'card0' not found")

    def events(self, qmp):
        self.in_guest("dmesg -C")
        qmp.command("inject-nmi")
        self.wait_in_guest("dmesg | grep -q 'NMI'")
        qmp.events.clear()
        self.in_guest("hwclock --set --date '2031-05-06 07:08:09' --utc")
        change = qmp.wait_event("RTC_CHANGE")["data"]
        ahead = time.mktime(time.strptime("2031-05-06", "%Y-%m-%d")) - time.time()
        self.assertLess(abs(change["offset"] - ahead), 2 * 86400)
        self.in_guest("hwclock -w")
        self.in_guest("modprobe evdev; udevadm settle; (timeout 60 head -c 48 "
                      "/dev/input/by-path/platform-i8042-serio-0-event-kbd >/root/keys) & sleep 1")
        qmp.command("send-key", keys=[{"type": "qcode", "data": "a"}])
        self.wait_in_guest("[ $(stat -c %s /root/keys) = 48 ]")
        # struct input_event: time, type 1 (a key), code 30 (A), value 1 (pressed).
        self.assertRegex(self.in_guest("od -An -tu2 -v -w24 /root/keys"), r"(?m)\s1\s+30\s+1\s+0$")

    def test_e1000_comes_and_goes(self):
        self.qmp_path = str(self.folder / "qmp.sock")
        guest = Guest(self, "-M", "q35", "-device", "pcie-root-port,id=rp1,chassis=1",
                      "-device", "pcie-root-port,id=rp2,chassis=2", "-netdev", "user,id=n0", "-device",
                      "e1000,netdev=n0,bus=rp2", "-qmp",
                      f"unix:{self.qmp_path},server=on,wait=off", full=True)
        self.assertIn("10.0.2.15", guest.lease)
        self.machine = guest.console
        qmp = self.connect()
        for _ in range(2):
            qmp.command("netdev_add", type="user", id="n1", net="10.9.0.0/24")
            qmp.command("device_add", driver="e1000", id="card1", netdev="n1", bus="rp1")
            self.wait_in_guest("test -e /sys/class/net/eth1")
            self.in_guest("ip link set eth1 up; /usr/lib/klibc/bin/ipconfig -t 60 -c dhcp -d eth1 "
                          ">/dev/null; ip -4 addr show dev eth1 | grep 10.9.0.15")
            self.set_link(qmp, "card1", False)
            self.wait_in_guest("[ $(cat /sys/class/net/eth1/carrier) = 0 ]")
            self.set_link(qmp, "card1", True)
            self.wait_in_guest("[ $(cat /sys/class/net/eth1/carrier) = 1 ]")
            # The back end may go before the card.
            qmp.command("netdev_del", id="n1")
            self.wait_in_guest("[ $(cat /sys/class/net/eth1/carrier) = 0 ]")
            qmp.command("device_del", id="card1")
            self.assertEqual(qmp.wait_event("DEVICE_DELETED")["data"]["device"], "card1")
            self.wait_in_guest("test ! -e /sys/class/net/eth1")
        guest.power_off()

    def test_panic_is_told(self):
        self.qmp_path = str(self.folder / "qmp.sock")
        guest = Guest(self, "-nic", "user,model=virtio", "-device", "pvpanic-pci", "-action", "panic=pause", "-qmp",
                      f"unix:{self.qmp_path},server=on,wait=off", dhcp=False)
        qmp = self.connect()
        guest.run("modprobe pvpanic-pci; mount -t proc proc /proc; true")
        guest.console.type("echo c >/proc/sysrq-trigger\n")
        self.assertEqual(qmp.wait_event("GUEST_PANICKED")["data"], {"action": "pause"})
        self.assertEqual(qmp.command("query-status")["status"], "guest-panicked")
        qmp.command("quit")
        self.assertEqual(guest.console.wait(30), 0)


if __name__ == "__main__":
    unittest.main()
