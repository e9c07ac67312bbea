// Objects of a machine: those that it begins with, those that come and go.
#include <algorithm>
#include <utility>

#include "boot/memory_map.h"
#include "machine/device_factory.h"
#include "machine/firmware.h"
#include "machine/machine.h"
#include "machine/objects.h"

namespace limen::machine {

Result<> Machine::open_objects() {
  for (const auto& object : description_.objects) {
    LIMEN_TRY(check_object(object));
    if (is_memory_backend(object.type)) memory_files_[object.id] = LIMEN_TRY(open_memory(object));
    objects_.push_back(object);
  }
  return {};
}

Result<std::unique_ptr<memory::GuestMemory>> Machine::open_guest_memory() {
  const auto layout = LIMEN_TRY(
      boot::ram_layout(description_.memory_bytes,
                       description_.type == "pc" ? boot::kPcLowRamLimit : boot::kLowRamLimit,
                       boots_firmware(description_)));
  const uint64_t beside =
      memory_beside_ram(description_, bios_.size()) + display_memory(description_);
  const auto& id = description_.memory_backend;
  if (id.empty()) return memory::GuestMemory::create(layout, {}, true, beside);
  const auto found = std::ranges::find(objects_, id, &ObjectDescription::id);
  if (found == objects_.end() || !is_memory_backend(found->type))
    return fail("Memory backend '{}' not found", id);
  const auto backend = memory_backend(*found);
  if (backend.size != description_.memory_bytes)
    return fail("Machine memory size does not match the size of the memory backend");
  // Only a file of others' can show a difference.
  const bool shared = backend.share || found->type != "memory-backend-file";
  auto file = std::move(memory_files_.at(id));
  memory_files_.erase(id);
  return memory::GuestMemory::create(layout, std::move(file), shared, beside);
}

bool Machine::object_in_use(const ObjectDescription& object) const {
  if (object.id == description_.memory_backend) return true;
  const bool by_device = std::ranges::any_of(devices_, [&](const DeviceDescription& device) {
    return std::ranges::any_of(device.properties, [&](const auto& property) {
      return property.second == object.id &&
             ((property.first == "rng" && object.type.starts_with("rng-")) ||
              (property.first == "iothread" && object.type == "iothread"));
    });
  });
  if (by_device) return true;
  return object.type == "throttle-group" && board_ != nullptr &&
         std::ranges::any_of(board_->drives(), [&](const Drive& drive) {
           return drive.description.throttle_group == object.id;
         });
}

Result<> Machine::add_object(const ObjectDescription& object) {
  LIMEN_TRY(check_object(object));
  if (std::ranges::find(objects_, object.id, &ObjectDescription::id) != objects_.end())
    return fail("attempt to add duplicate property '{}' to object (type 'container')", object.id);
  if (is_memory_backend(object.type)) {
    memory_files_[object.id] = LIMEN_TRY(open_memory(object));
  } else if (object.type == "iothread" || object.type == "throttle-group") {
    if (board_ == nullptr) return fail("machine 'none' has no use for '{}'", object.type);
    if (object.type == "iothread") {
      LIMEN_TRY(board_->add_io_thread(object.id));
    } else {
      const auto limits = LIMEN_TRY(throttle_limits(object));
      LIMEN_TRY(board_->add_throttle_group(object.id, limits));
    }
  }
  objects_.push_back(object);
  return {};
}

Result<> Machine::remove_object(const std::string& id) {
  const auto found = std::ranges::find(objects_, id, &ObjectDescription::id);
  if (found == objects_.end()) return fail("object '{}' not found", id);
  if (object_in_use(*found)) return fail("object '{}' is in use, can not be deleted", id);
  if (found->type == "iothread") board_->remove_io_thread(id);
  if (found->type == "throttle-group") board_->remove_throttle_group(id);
  memory_files_.erase(id);
  objects_.erase(found);
  return {};
}

}  // namespace limen::machine
