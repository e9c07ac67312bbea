#include "irq/pv_eoi.h"

#include "x86/kvm_paravirtual.h"

namespace limen::irq {
namespace {

constexpr uint64_t kReserved = 2;
constexpr uint64_t kFlagSize = 4;
constexpr std::byte kFlag{1};

}  // namespace

bool PvEoi::set(uint64_t value) {
  std::byte* flag = nullptr;
  if ((value & x86::kvm::msr::kEnable) != 0) {
    const auto bytes = ram_.span({value & ~x86::kvm::msr::kEnable}, kFlagSize);
    if ((value & kReserved) != 0 || bytes.empty()) return false;
    flag = bytes.data();
  } else if ((value & kReserved) != 0) {
    return false;
  }
  value_ = value;
  flag_ = flag;
  return true;
}

void PvEoi::reset() {
  value_ = 0;
  flag_ = nullptr;
  offered_ = false;
}

void PvEoi::offer() {
  if (flag_ == nullptr) return;
  *flag_ |= kFlag;
  ram_.note_written({value_ & ~x86::kvm::msr::kEnable}, 1);
  offered_ = true;
}

bool PvEoi::take_back() {
  offered_ = false;
  if ((*flag_ & kFlag) == std::byte{0}) return true;
  *flag_ &= ~kFlag;
  ram_.note_written({value_ & ~x86::kvm::msr::kEnable}, 1);
  return false;
}

}  // namespace limen::irq
