#include "device/fw_cfg.h"

#include <string_view>

namespace limen::device {
namespace {

constexpr uint16_t kSelectorSize = 2, kData = 1;
constexpr uint16_t kSignature = 0x00, kId = 0x01, kRamSize = 0x03, kProcessors = 0x05,
                   kMostProcessors = 0x0F, kFileDirectory = 0x19;
constexpr uint32_t kTraditionalInterface = 1;

}  // namespace

FwCfg::FwCfg(memory::IoSpace& ports, const Config& config) : ports_(ports) {
  constexpr std::string_view kName = "QEMU";
  items_[kSignature] = {kName.begin(), kName.end()};
  add(kId, kTraditionalInterface);
  add(kRamSize, config.ram_bytes);
  add(kProcessors, config.processors);
  add(kMostProcessors, config.most_processors);
  add(kFileDirectory, uint32_t{0});  // no files
  ports_.claim(kPort, kSelectorSize, *this, "fw_cfg");
}

FwCfg::~FwCfg() { ports_.release(kPort, *this); }

template <typename T>
void FwCfg::add(uint16_t key, T value) {
  std::vector<uint8_t>& item = items_[key];
  for (unsigned i = 0; i < sizeof value; ++i)
    item.push_back(static_cast<uint8_t>(uint64_t{value} >> (8 * i)));
}

void FwCfg::reset() {
  const std::lock_guard lock(mutex_);
  selected_ = 0;
  next_ = 0;
}

uint64_t FwCfg::io_read(uint64_t offset, unsigned) {
  if (offset != kData) return 0;
  const std::lock_guard lock(mutex_);
  const auto item = items_.find(selected_);
  return item != items_.end() && next_ < item->second.size() ? item->second[next_++] : 0;
}

void FwCfg::io_write(uint64_t offset, unsigned size, uint64_t value) {
  if (offset != 0 || size != kSelectorSize) return;
  const std::lock_guard lock(mutex_);
  selected_ = static_cast<uint16_t>(value);
  next_ = 0;
}

}  // namespace limen::device
