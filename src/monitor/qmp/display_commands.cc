// What the guest's displays show.
#include <cerrno>
#include <cstdio>
#include <memory>

#include "display/picture_file.h"
#include "machine/board.h"
#include "machine/machine.h"
#include "monitor/qmp/command_table.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kDisplaySchema = R"(
enum ImageFormat { ppm, png }
command screendump { filename: str, *device: str, *head: int, *format: ImageFormat }
)";

/// The screen that `arguments` name; errors are worded as QEMU's.
Result<display::Screen*> find_screen(machine::Machine& machine, const Json& arguments) {
  auto* const board = machine.board();
  if (!arguments.contains("device")) {
    if (arguments.contains("head")) return fail("'head' must be specified together with 'device'");
    auto* const screen = board != nullptr ? board->screen() : nullptr;
    if (screen == nullptr) return fail("There is no console to take a screendump from");
    return screen;
  }
  const auto id = arguments["device"].get<std::string>();
  const auto head = arguments.value("head", int64_t{0});
  auto* const screen = board != nullptr ? board->screen(id) : nullptr;
  if (screen != nullptr && head == 0) return screen;
  for (const auto& device : machine.devices())
    if (const auto its = device.properties.find("id");
        its != device.properties.end() && its->second == id)
      return fail("Device '{}' (head {}) is not bound to a QemuConsole", id, head);
  return fail("Device '{}' not found", id);
}

Result<> save(std::span<const uint8_t> bytes, const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wb"),
                                                             &std::fclose);
  if (!file) return fail_errno(errno, fmt::format("failed to open file '{}'", path));
  if (std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size() ||
      std::fflush(file.get()) != 0)
    return fail_errno(errno, fmt::format("failed to write file '{}'", path));
  return {};
}

Reply screendump(Context& context, const Json& arguments) {
  const auto screen = find_screen(context.machine, arguments);
  if (!screen)
    return std::unexpected(screen.error().message.ends_with("not found")
                               ? Failure("DeviceNotFound", screen.error().message)
                               : Failure(screen.error()));
  const auto format = arguments.value("format", "ppm") == "png" ? display::PictureFormat::kPng
                                                                : display::PictureFormat::kPpm;
  const auto bytes = display::encode_picture((*screen)->snapshot(), format);
  if (!bytes) return std::unexpected(Failure(bytes.error()));
  if (auto saved = save(*bytes, arguments["filename"]); !saved)
    return std::unexpected(Failure(std::move(saved).error()));
  return nothing();
}

}  // namespace

CommandGroup display_commands() {
  return {.schema = kDisplaySchema, .handlers = {{"screendump", screendump}}};
}

}  // namespace limen::monitor
