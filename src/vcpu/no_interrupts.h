// A local interrupt controller that has nothing to say.
#pragma once

#include "vcpu/local_interrupt_controller.h"

namespace limen::vcpu {

/// For a processor that nobody interrupts, and for what answers a few of the questions only.
class NoInterrupts : public LocalInterruptController {
 public:
  bool has_interrupt() override { return false; }
  std::optional<uint8_t> acknowledge() override { return std::nullopt; }
  EventRequest take_event() override { return {}; }
  uint8_t task_priority() override { return 0; }
  void set_task_priority(uint8_t) override {}
  bool read_msr(uint32_t, uint64_t&) override { return false; }
  bool write_msr(uint32_t, uint64_t) override { return false; }
  uint64_t next_timer_tsc() override { return UINT64_MAX; }
  void timer_due(uint64_t) override {}
};

}  // namespace limen::vcpu
