#include "machine/interrupts.h"

#include "boot/memory_map.h"
#include "x86/cpu_features.h"

namespace limen::machine {

/// The lines of a board that lead to the accelerator: those below 16, which the router gives to an
/// 8259, or the others, which it gives to an I/O APIC.
class Interrupts::Lines final : public irq::InterruptSink {
 public:
  Lines(vcpu::InterruptChips& chips, bool low) : chips_(chips), low_(low) {}
  void set_line(unsigned line, bool level) override {
    constexpr unsigned kIsaLines = 16;
    if ((line < kIsaLines) == low_) chips_.set_line(line, level);
  }

 private:
  vcpu::InterruptChips& chips_;
  const bool low_;
};

Interrupts::Interrupts(const Config& config) : chips_(config.chips) {
  if (chips_ == nullptr)
    build_own(config);
  else
    build_beside(config);
  if (pic_ != nullptr) {
    router_ = std::make_unique<irq::InterruptRouter>(pic_.get(), io_apic_.get());
    return;
  }
  for (const bool low : {true, false}) lines_.push_back(std::make_unique<Lines>(*chips_, low));
  router_ = std::make_unique<irq::InterruptRouter>(lines_[0].get(), lines_[1].get());
}

Interrupts::~Interrupts() = default;

void Interrupts::build_own(const Config& config) {
  bus_ = std::make_unique<irq::ApicBus>(config.mmio);
  for (unsigned i = 0; i < config.apic_ids.size(); ++i)
    local_.push_back(std::make_unique<irq::LocalApic>(
        *bus_,
        irq::LocalApic::Config{.id = config.apic_ids[i],
                               .bootstrap_processor = i == 0,
                               .tsc_hz = config.tsc_hz,
                               .x2apic = x86::has_feature(config.cpuid, "x2apic"),
                               .tsc_deadline = x86::has_feature(config.cpuid, "tsc-deadline"),
                               .physical_address_bits = config.physical_address_bits,
                               .ram = &config.memory},
        [notify = config.notify, i] { notify(i); }));
  // The 8259's output is wired to the bootstrap processor alone.
  pic_ = std::make_unique<irq::Pic8259>(config.ports, [this] { local_.front()->pic_changed(); });
  local_.front()->connect_pic(*pic_);
  io_apic_ = std::make_unique<irq::IoApic>(config.mmio, *bus_, boot::kIoApicBase);
}

void Interrupts::build_beside(const Config& config) {
  const auto processors = static_cast<unsigned>(config.apic_ids.size());
  accelerated_ = std::make_unique<irq::AcceleratedApics>(*chips_, processors, config.notify);
  if (chips_->complete()) return;
  pic_ = std::make_unique<irq::Pic8259>(config.ports, [this] { accelerated_->pic_changed(); });
  accelerated_->connect_pic(*pic_);
  io_apic_ = std::make_unique<irq::IoApic>(config.mmio, *accelerated_, boot::kIoApicBase);
}

irq::MsiSink& Interrupts::messages() {
  if (accelerated_ != nullptr) return *accelerated_;
  return *bus_;
}

vcpu::LocalInterruptController& Interrupts::local(unsigned processor) {
  if (accelerated_ != nullptr) return accelerated_->port(processor);
  return *local_[processor];
}

irq::LocalApic* Interrupts::local_apic(unsigned processor) {
  return local_.empty() ? nullptr : local_[processor].get();
}

void Interrupts::reset() {
  router_->reset();
  if (pic_ != nullptr) pic_->reset();
  if (io_apic_ != nullptr) io_apic_->reset();
  for (auto& apic : local_) apic->reset();
  if (chips_ != nullptr) chips_->reset();
}

void Interrupts::inject_nmi() {
  if (accelerated_ != nullptr) return accelerated_->inject_nmi();
  for (auto& apic : local_) apic->inject_nmi();
}

std::string Interrupts::describe() {
  return pic_ != nullptr ? io_apic_->describe() + pic_->describe() : chips_->describe();
}

std::string Interrupts::describe_local_apic(unsigned processor) {
  return local_.empty() ? chips_->describe_local_apic(processor) : local_[processor]->describe();
}

}  // namespace limen::machine
