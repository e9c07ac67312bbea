// Trays and what lies in them.
#include "machine/machine.h"
#include "monitor/qmp/drive_lookup.h"

namespace limen::monitor {
namespace {

using machine::BlockControl;

constexpr std::string_view kMediumSchema = R"(
command eject { *device: str, *id: str, *force: bool }
command blockdev-open-tray { *device: str, *id: str, *force: bool }
command blockdev-close-tray { *device: str, *id: str }
command blockdev-remove-medium { id: str }
command blockdev-insert-medium { id: str, node-name: str }
enum BlockdevChangeReadOnlyMode { retain, read-only, read-write }
command blockdev-change-medium { *device: str, *id: str, filename: str, *format: str, *force: bool,
  *read-only-mode: BlockdevChangeReadOnlyMode }
event DEVICE_TRAY_MOVED { device: str, id: str, tray-open: bool }
)";

Reply eject(Context& context, const Json& arguments) {
  const auto found = find_backend(context, arguments);
  if (!found) return std::unexpected(found.error());
  BlockControl control(*context.machine.board());
  const auto open =
      control.open_tray(*found->drive, arguments.value("force", false), found->called);
  if (!open) return std::unexpected(Failure(open.error()));
  if (!*open)
    return failure("GenericError",
                   "Device '{}' is locked and force was not specified, wait for tray to open and "
                   "try again",
                   found->called);
  return answer(control.remove_medium(*found->drive, found->called));
}

/// A tray that the guest holds shut is no error: the guest was asked to open it.
Reply open_tray(Context& context, const Json& arguments) {
  const auto found = find_backend(context, arguments);
  if (!found) return std::unexpected(found.error());
  const auto open = BlockControl(*context.machine.board())
                        .open_tray(*found->drive, arguments.value("force", false), found->called);
  if (!open) return std::unexpected(Failure(open.error()));
  return nothing();
}

Reply close_tray(Context& context, const Json& arguments) {
  const auto found = find_backend(context, arguments);
  if (!found) return std::unexpected(found.error());
  return answer(BlockControl(*context.machine.board()).close_tray(*found->drive, found->called));
}

Reply remove_medium(Context& context, const Json& arguments) {
  const auto found = find_backend(context, arguments);
  if (!found) return std::unexpected(found.error());
  return answer(BlockControl(*context.machine.board()).remove_medium(*found->drive, found->called));
}

Reply insert_medium(Context& context, const Json& arguments) {
  const auto found = find_backend(context, {{"id", arguments["id"]}});
  if (!found) return std::unexpected(found.error());
  return answer(BlockControl(*context.machine.board())
                    .insert_medium(*found->drive, arguments["node-name"], found->called));
}

Reply change_medium(Context& context, const Json& arguments) {
  const auto found = find_backend(context, arguments);
  if (!found) return std::unexpected(found.error());
  BlockControl::Medium medium{.file = arguments["filename"],
                              .format = arguments.value("format", "")};
  if (!medium.format.empty() && medium.format != "raw" && medium.format != "qcow2")
    return failure("GenericError", "Unknown driver '{}'", medium.format);
  const std::string mode = arguments.value("read-only-mode", "retain");
  if (mode != "retain") medium.read_only = mode == "read-only";
  return answer(
      BlockControl(*context.machine.board())
          .change_medium(*found->drive, medium, arguments.value("force", false), found->called));
}

}  // namespace

CommandGroup medium_commands() {
  return {kMediumSchema,
          {{"eject", eject},
           {"blockdev-open-tray", open_tray},
           {"blockdev-close-tray", close_tray},
           {"blockdev-remove-medium", remove_medium},
           {"blockdev-insert-medium", insert_medium},
           {"blockdev-change-medium", change_medium}}};
}

}  // namespace limen::monitor
