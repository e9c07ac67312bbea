// A debugger's bytes, as they come: reader, session and every packet behind them.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "gdb/session.h"
#include "tests/gdb/scripted_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limen;  // NOLINT(google-build-using-namespace)
  gdb::testing::ScriptedTarget target;
  size_t sent = 0;
  gdb::Session session(target, [&](std::string_view bytes) { sent += bytes.size(); });
  target.stopped = [&] { session.run_state_changed(machine::RunState::kPaused); };
  // The input is packets that are framed here, so that checksums are no hurdle, and after FFH what
  // the client sends as it is.
  while (size > 0 && session.open()) {
    size_t length = 1;
    while (length < size && data[length] != '\n') ++length;
    const std::string_view line(reinterpret_cast<const char*>(data), length);
    if (data[0] == 0xFF) {
      session.receive({data + 1, length - 1});
    } else {
      const std::string framed = gdb::frame(line);
      session.receive({reinterpret_cast<const uint8_t*>(framed.data()), framed.size()});
    }
    if (target.runs && length % 2 == 0) {
      target.runs = false;
      session.debug_stopped(static_cast<unsigned>(length / 2 % 2),
                            {.cause = static_cast<vcpu::DebugStop::Cause>(length / 4 % 3)});
    }
    data += length;
    size -= length;
  }
  return 0;
}
