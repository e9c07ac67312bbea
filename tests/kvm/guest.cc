#include "kvm/guest.h"

#include <condition_variable>
#include <thread>

#include "kvm/kvm_accelerator.h"
#include "x86/registers.h"

namespace limen::kvm {

std::optional<uint8_t> QueuedInterrupts::acknowledge() {
  const std::lock_guard lock(mutex_);
  if (vectors_.empty()) return std::nullopt;
  const uint8_t vector = vectors_.front();
  vectors_.pop_front();
  return vector;
}

QueuedInterrupts::EventRequest QueuedInterrupts::take_event() {
  const std::lock_guard lock(mutex_);
  if (events_.empty()) return {};
  const auto event = events_.front();
  events_.pop_front();
  return event;
}

bool QueuedInterrupts::read_msr(uint32_t index, uint64_t& value) {
  if (index != x86::msr::kApicBase) return false;
  value = bootstrap ? 0xFEE0'0900 : 0xFEE0'0800;
  return true;
}

void QueuedInterrupts::timer_due(uint64_t) {
  deadline = UINT64_MAX;
  add(0x20);
}

void KvmGuest::SetUp() {
  KvmTest::SetUp();
  if (IsSkipped()) return;
  const memory::GuestMemory::Layout layout[] = {{.start = {0}, .size = 0xA0000},
                                                {.start = {0x10'0000}, .size = kRam - 0x10'0000}};
  memory_ = *memory::GuestMemory::create(layout, UniqueFd{}, true, 1 << 20);
  ports_.claim(0x80, 0x20, port_writes_, "test");
  mmio_.claim(0xA0000, 0x1000, low_device_, "test");
  mmio_.claim(kDevice, 0x1000, high_device_, "test");
  auto accelerator = make_kvm_accelerator(device_, options_);
  ASSERT_TRUE(accelerator) << accelerator.error().message;
  accelerator_ = *std::move(accelerator);
  auto vm = accelerator_->create_vm({*memory_, ports_, mmio_});
  ASSERT_TRUE(vm) << vm.error().message;
  vm_ = *std::move(vm);
  vcpu_ = make_vcpu(0, interrupts_);
}

std::unique_ptr<vcpu::Vcpu> KvmGuest::make_vcpu(unsigned index, QueuedInterrupts& interrupts) {
  auto cpuid = accelerator_->supported_cpuid();
  auto features = cpuid.answer(1, 0);
  features.ebx = (features.ebx & 0xFF'FFFF) | index << 24;
  cpuid.set(1, 0, false, features);
  auto vcpu = vm_->create_vcpu(index, cpuid, interrupts);
  EXPECT_TRUE(vcpu) << vcpu.error().message;
  auto state = real_mode_at(kCode);
  interrupts.bootstrap = index == 0;
  state.activity.wait_for_sipi = index != 0;
  (*vcpu)->set_state(state);
  return *std::move(vcpu);
}

x86::CpuState KvmGuest::real_mode_at(uint64_t address) {
  auto state = x86::reset_state(0);
  auto& cs = state.system.segments[x86::kCs];
  cs.selector = 0;
  cs.base = 0;
  state.rip = address;
  return state;
}

x86::CpuState KvmGuest::long_mode() {
  constexpr uint64_t kTables = 0x10000;
  const auto entry = [this](uint64_t at, uint64_t value) {
    put(at, std::as_bytes(std::span(&value, 1)));
  };
  entry(kTables, (kTables + 0x1000) | 7);
  entry(kTables + 0x1000, (kTables + 0x2000) | 7);
  for (uint64_t page = 0; page < kRam >> 21; ++page)
    entry(kTables + 0x2000 + 8 * page, page << 21 | 0x87);
  auto state = x86::reset_state(0);
  using x86::Segment;
  for (auto& segment : state.system.segments) {
    segment.selector = 0x10;
    segment.base = 0;
    segment.limit = 0xFFFF'FFFF;
    segment.attributes |= Segment::kGranularity | Segment::kDefaultBig;
  }
  auto& cs = state.system.segments[x86::kCs];
  cs.selector = 8;
  cs.attributes = static_cast<uint16_t>((cs.attributes & ~Segment::kDefaultBig) | Segment::kLong);
  state.system.cr0 = x86::cr0::kProtection | x86::cr0::kPaging | x86::cr0::kExtensionType;
  state.system.cr3 = kTables;
  state.system.cr4 = x86::cr4::kPae;
  state.system.efer = x86::efer::kLme | x86::efer::kLma;
  state.rip = kCode;
  state.gpr[x86::kRsp] = 0x9000;
  return state;
}

vcpu::Exit KvmGuest::run(vcpu::Vcpu& vcpu, double seconds) {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false, late = false;
  std::thread watchdog([&] {
    std::unique_lock lock(mutex);
    if (changed.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return done; }))
      return;
    late = true;
    vcpu.kick();
  });
  const auto exit = vcpu.run();
  {
    const std::lock_guard lock(mutex);
    done = true;
  }
  changed.notify_all();
  watchdog.join();
  EXPECT_FALSE(late) << "still running after " << seconds << " s";
  return exit;
}

}  // namespace limen::kvm
