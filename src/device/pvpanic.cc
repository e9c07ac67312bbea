#include "device/pvpanic.h"

#include <utility>

namespace limen::device {

void PanicRegister::io_write(uint64_t offset, unsigned, uint64_t value) {
  if (offset != 0) return;
  const auto events = static_cast<uint8_t>(value & events_);
  // Both at once: the crash kernel, as the guest then goes on.
  if ((events & static_cast<uint8_t>(PanicEvent::kCrashLoaded)) != 0)
    told_(PanicEvent::kCrashLoaded);
  else if (events != 0)
    told_(PanicEvent::kPanicked);
}

IsaPvpanic::IsaPvpanic(memory::IoSpace& ports, uint16_t port, uint8_t events,
                       std::function<void(PanicEvent)> told)
    : ports_(ports), port_(port), register_(events, std::move(told)) {
  ports_.claim(port_, 1, register_, "pvpanic");
}

IsaPvpanic::~IsaPvpanic() { ports_.release(port_, register_); }

}  // namespace limen::device
