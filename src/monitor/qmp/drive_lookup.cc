#include "monitor/qmp/drive_lookup.h"

#include "machine/machine.h"

namespace limen::monitor {

std::expected<FoundDrive, Failure> find_backend(Context& context, const Json& arguments) {
  const std::string device = arguments.value("device", "");
  const std::string id = arguments.value("id", "");
  if (device.empty() == id.empty())
    return failure("GenericError", "Need exactly one of 'device' and 'id'");
  const auto& called = device.empty() ? id : device;
  machine::Drive* drive = nullptr;
  if (auto* board = context.machine.board(); board != nullptr) {
    machine::BlockControl control(*board);
    drive = device.empty() ? control.find_by_device(id) : control.find_drive(device);
  }
  if (drive == nullptr) return failure("DeviceNotFound", "Device '{}' not found", called);
  return FoundDrive{drive, called};
}

std::expected<FoundDrive, Failure> find_drive_or_node(Context& context, const std::string& device,
                                                      const std::string& node) {
  if (auto* board = context.machine.board(); board != nullptr) {
    machine::BlockControl control(*board);
    if (auto* drive = control.find_drive(device)) {
      if (drive->image == nullptr) return failure("GenericError", "Device '{}' has no medium", device);
      return FoundDrive{drive, device};
    }
    if (auto* drive = control.find_node(node)) return FoundDrive{drive, node};
  }
  return failure("GenericError", "Cannot find device='{}' nor node-name='{}'", device, node);
}

Reply answer(Result<> result) {
  if (!result) return std::unexpected(Failure(std::move(result).error()));
  return nothing();
}

}  // namespace limen::monitor
