#include "net/vhost_net.h"

// What this leaves out of <linux/virtio_ring.h> is not C++.
#define VIRTIO_RING_NO_LEGACY

#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <string_view>
#include <vector>

namespace limen::net {
namespace {

constexpr uint64_t bit(unsigned number) { return uint64_t{1} << number; }
/// Features that change what the kernel does with a ring (virtio 1.2 §5.1.3, §6). All of them must
/// be there, as a card offers each (Linux has them since 4.0). The kernel hears of no others: bit
/// 27 would be VHOST_NET_F_VIRTIO_NET_HDR to it.
constexpr uint64_t kMergeable = bit(15), kIndirectDescriptors = bit(28), kEventIndex = bit(29),
                   kVersion1 = bit(32);
constexpr uint64_t kRingFeatures = kMergeable | kIndirectDescriptors | kEventIndex | kVersion1;
/// Numbers of a pair's rings (VHOST_NET_VQ_RX and VHOST_NET_VQ_TX in drivers/vhost/net.c).
constexpr unsigned kReceive = 0, kTransmit = 1;

template <typename... Argument>
Result<> call(const UniqueFd& fd, unsigned long request, std::string_view name,
              Argument... argument) {
  if (::ioctl(fd.get(), request, argument...) < 0) return fail_errno(errno, std::string(name));
  return {};
}

/// struct vhost_memory: guest-physical addresses and where this process has them.
Result<> tell_memory(const UniqueFd& fd, const memory::GuestMemory& memory) {
  const auto& regions = memory.regions();
  constexpr size_t kWord = sizeof(uint64_t);
  std::vector<uint64_t> table(
      (sizeof(vhost_memory) + regions.size() * sizeof(vhost_memory_region)) / kWord);
  auto* const head = reinterpret_cast<vhost_memory*>(table.data());
  head->nregions = static_cast<uint32_t>(regions.size());
  for (size_t i = 0; i < regions.size(); ++i)
    head->regions[i] = {.guest_phys_addr = regions[i].start.value,
                        .memory_size = regions[i].size,
                        .userspace_addr = reinterpret_cast<uint64_t>(regions[i].host),
                        .flags_padding = 0};
  return call(fd, VHOST_SET_MEM_TABLE, "VHOST_SET_MEM_TABLE", head);
}

}  // namespace

Result<VhostNet> VhostNet::open(const memory::GuestMemory& memory) {
  UniqueFd fd(::open("/dev/vhost-net", O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "could not open /dev/vhost-net");
  return create(std::move(fd), memory);
}

Result<VhostNet> VhostNet::create(UniqueFd fd, const memory::GuestMemory& memory) {
  VhostNet device(std::move(fd));
  uint64_t features = 0;
  LIMEN_TRY(call(device.fd_, VHOST_SET_OWNER, "VHOST_SET_OWNER"));
  LIMEN_TRY(call(device.fd_, VHOST_GET_FEATURES, "VHOST_GET_FEATURES", &features));
  if (const uint64_t missing = kRingFeatures & ~features; missing != 0)
    return fail("the kernel's vhost-net lacks features {:#x}", missing);
  LIMEN_TRY(tell_memory(device.fd_, memory));
  return device;
}

Result<> VhostNet::set_up(unsigned index, const KernelRing& ring,
                          unsigned poll_microseconds) const {
  vhost_vring_state state{.index = index, .num = ring.size};
  LIMEN_TRY(call(fd_, VHOST_SET_VRING_NUM, "VHOST_SET_VRING_NUM", &state));
  state.num = ring.next;
  LIMEN_TRY(call(fd_, VHOST_SET_VRING_BASE, "VHOST_SET_VRING_BASE", &state));
  vhost_vring_addr address{};
  address.index = index;
  address.desc_user_addr = reinterpret_cast<uint64_t>(ring.descriptors);
  address.avail_user_addr = reinterpret_cast<uint64_t>(ring.available);
  address.used_user_addr = reinterpret_cast<uint64_t>(ring.used);
  LIMEN_TRY(call(fd_, VHOST_SET_VRING_ADDR, "VHOST_SET_VRING_ADDR", &address));
  vhost_vring_file file{.index = index, .fd = ring.kick};
  LIMEN_TRY(call(fd_, VHOST_SET_VRING_KICK, "VHOST_SET_VRING_KICK", &file));
  file.fd = ring.call;
  LIMEN_TRY(call(fd_, VHOST_SET_VRING_CALL, "VHOST_SET_VRING_CALL", &file));
  file.fd = ring.error;
  LIMEN_TRY(call(fd_, VHOST_SET_VRING_ERR, "VHOST_SET_VRING_ERR", &file));
  if (poll_microseconds == 0) return {};
  state.num = poll_microseconds;
  return call(fd_, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, "VHOST_SET_VRING_BUSYLOOP_TIMEOUT", &state);
}

Result<> VhostNet::prepare(bool header, unsigned poll_microseconds, uint64_t features,
                           const KernelRingPair& pair) const {
  features &= kRingFeatures;
  if (!header) features |= bit(VHOST_NET_F_VIRTIO_NET_HDR);  // then the kernel makes an empty one
  LIMEN_TRY(call(fd_, VHOST_SET_FEATURES, "VHOST_SET_FEATURES", &features));
  LIMEN_TRY(set_up(kReceive, pair.receive, poll_microseconds));
  return set_up(kTransmit, pair.transmit, poll_microseconds);
}

Result<> VhostNet::start(int tap) const {
  for (const unsigned index : {kReceive, kTransmit}) {
    vhost_vring_file file{.index = index, .fd = tap};
    LIMEN_TRY(call(fd_, VHOST_NET_SET_BACKEND, "VHOST_NET_SET_BACKEND", &file));
  }
  return {};
}

KernelRings::Next VhostNet::stop() const {
  return {.receive = stop(kReceive), .transmit = stop(kTransmit)};
}

/// It waits for what is under way.
uint16_t VhostNet::stop(unsigned index) const {
  vhost_vring_file file{.index = index, .fd = VHOST_FILE_UNBIND};
  ::ioctl(fd_.get(), VHOST_NET_SET_BACKEND, &file);
  ::ioctl(fd_.get(), VHOST_SET_VRING_KICK, &file);
  vhost_vring_state state{.index = index, .num = 0};
  ::ioctl(fd_.get(), VHOST_GET_VRING_BASE, &state);
  return static_cast<uint16_t>(state.num);
}

}  // namespace limen::net
