// SCSI commands of a hostile guest: whole requests to a virtio adapter with a disk, a CD drive and
// an empty drive, and its control and event queues.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/log.h"
#include "block/scsi/cd.h"
#include "block/scsi/disk.h"
#include "pci/pci_bus.h"
#include "virtio/scsi/scsi.h"
#include "virtio/virtio_pci.h"

namespace {

using namespace limen;

constexpr uint64_t kRam = 1 << 20, kRegisters = 0xC000'0000;
constexpr uint64_t kDisk = 64 << 10;
constexpr uint64_t kRings[3] = {0x1000, 0x2000, 0x3000};
constexpr uint64_t kRequest = 0x4000, kResponse = 0x5000, kData = 0x1'0000;

void require(bool condition) {
  if (!condition) std::abort();
}

class Disk final : public block::BlockDevice {
 public:
  explicit Disk(bool read_only) : read_only_(read_only) {}
  uint64_t size() const override { return kDisk; }
  bool read_only() const override { return read_only_; }
  bool supports_discard() const override { return true; }
  void submit(block::Request request) override {
    require(request.offset <= kDisk);
    uint64_t length = request.length;
    if (!request.buffers.empty()) {
      length = 0;
      for (const iovec& buffer : request.buffers) length += buffer.iov_len;
    }
    require(length <= kDisk - request.offset);
    require(request.kind == block::Request::Kind::kRead ||
            request.kind == block::Request::Kind::kFlush || !read_only_);
    for (const iovec& buffer : request.buffers) {
      if (request.kind == block::Request::Kind::kRead)
        std::memset(buffer.iov_base, 1, buffer.iov_len);
      else
        std::memcpy(bytes_, buffer.iov_base, std::min<size_t>(buffer.iov_len, sizeof bytes_));
    }
    request.done(0);
  }
  Result<> drain() override { return {}; }

 private:
  const bool read_only_;
  std::byte bytes_[kDisk];
};

struct NullMsi final : irq::MsiSink {
  void send_msi(const irq::MsiMessage&) override {}
};

struct Reader {
  std::span<const uint8_t> left;
  uint64_t take(size_t count) {
    uint64_t value = 0;
    count = std::min(count, left.size());
    std::memcpy(&value, left.data(), count);
    left = left.subspan(count);
    return value;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  log::set_level(log::Level::kError);
  const memory::GuestMemory::Layout layout{{0}, kRam};
  static auto memory = *memory::GuestMemory::create(std::span(&layout, 1));
  const auto ram = memory->span({0}, kRam);
  std::memset(ram.data(), 0, kData);

  memory::IoSpace ports("ports"), mmio("mmio");
  NullMsi msi;
  Disk disk(false), disc(true);
  pci::PciBus bus("pcie.0", {.ports = &ports, .mmio = &mmio, .msi = &msi});
  auto adapter = *virtio::Scsi::create({});
  auto owned = *block::scsi::Cd::create({}, &disc);
  auto* cd = owned.get();
  require(adapter->add_unit(0, 0, *block::scsi::Disk::create({}, disk)).has_value());
  require(adapter->add_unit(0, 1, std::move(owned)).has_value());
  require(adapter->add_unit(1, 0, *block::scsi::Cd::create({}, nullptr)).has_value());
  virtio::VirtioPci function({"fuzz", 0}, std::move(adapter), *memory);
  require(bus.attach(function).has_value());
  require(pci::assign_resources(bus, {kRegisters, 1 << 20}, {0xC000, 0x1000}).has_value());

  const auto common = [&](uint64_t offset, unsigned width, uint64_t value) {
    mmio.write(kRegisters + offset, width, value);
  };
  const auto store = [&](uint64_t at, auto value) {
    std::memcpy(ram.data() + at, &value, sizeof value);
  };
  common(0x14, 1, 3);
  common(0x08, 4, 0);
  common(0x0C, 4, 7);
  common(0x08, 4, 1);
  common(0x0C, 4, 1);
  common(0x14, 1, 11);
  for (unsigned queue = 0; queue < 3; ++queue) {
    common(0x16, 2, queue);
    common(0x18, 2, 8);
    common(0x20, 8, kRings[queue]);
    common(0x28, 8, kRings[queue] + 0x100);
    common(0x30, 8, kRings[queue] + 0x200);
    common(0x1C, 2, 1);
  }
  common(0x14, 1, 15);

  uint16_t offered[3] = {};
  const auto offer = [&](unsigned queue, std::vector<std::pair<uint64_t, uint32_t>> readable,
                         std::vector<std::pair<uint64_t, uint32_t>> writable) {
    uint16_t index = 0;
    const size_t count = readable.size() + writable.size();
    for (size_t i = 0; i < count; ++i, ++index) {
      const bool write = i >= readable.size();
      const auto& [at, length] = write ? writable[i - readable.size()] : readable[i];
      store(kRings[queue] + 16 * i, at);
      store(kRings[queue] + 16 * i + 8, length);
      store(kRings[queue] + 16 * i + 12,
            static_cast<uint16_t>((write ? 2 : 0) | (i + 1 < count ? 1 : 0)));
      store(kRings[queue] + 16 * i + 14, static_cast<uint16_t>(i + 1));
    }
    store(kRings[queue] + 0x100 + 4 + 2 * (offered[queue] % 8), uint16_t{0});
    store(kRings[queue] + 0x100 + 2, ++offered[queue]);
    mmio.write(kRegisters + 0x3000 + 4 * queue, 2, queue);
  };

  Reader input{{data, size}};
  while (!input.left.empty()) {
    switch (input.take(1) % 8) {
      case 0: {  // a control request as it comes
        const auto length = static_cast<uint32_t>(1 + input.take(1) % 32);
        for (uint32_t i = 0; i < length; ++i)
          store(kRequest + i, static_cast<uint8_t>(input.take(1)));
        offer(0, {{kRequest, length}}, {{kResponse, 1 + static_cast<uint32_t>(input.take(1) % 8)}});
        break;
      }
      case 1:
        offer(1, {}, {{kResponse, 16}});
        break;
      case 2:
        switch (input.take(1) % 4) {
          case 0:
            (void)cd->open_tray(true);
            break;
          case 1:
            cd->close_tray();
            break;
          case 2:
            (void)cd->change_medium(nullptr);
            break;
          default:
            (void)cd->change_medium(&disc);
        }
        break;
      default: {  // a command for one of the units, with data of a length of its own
        std::memset(ram.data() + kRequest, 0, 51);
        const uint64_t where = input.take(1);
        store(kRequest, uint8_t{1});
        store(kRequest + 1, static_cast<uint8_t>(where & 1));
        store(kRequest + 3, static_cast<uint8_t>(where >> 1 & 3));
        const uint64_t length = 6 + input.take(1) % 11;
        for (uint64_t i = 0; i < length; ++i)
          store(kRequest + 19 + i, static_cast<uint8_t>(input.take(1)));
        const auto bytes = static_cast<uint32_t>(input.take(2));
        const bool out = (where & 0x80) != 0;
        if (out) {
          const size_t given = std::min<size_t>({input.left.size(), bytes, 64});
          std::memcpy(ram.data() + kData, input.left.data(), given);
          input.left = input.left.subspan(given);
        }
        std::vector<std::pair<uint64_t, uint32_t>> readable = {{kRequest, 51}};
        std::vector<std::pair<uint64_t, uint32_t>> writable = {{kResponse, 108}};
        if (bytes != 0) (out ? readable : writable).emplace_back(kData, bytes);
        offer(2, readable, writable);
      }
    }
  }
  return 0;
}
