#include "machine/firmware.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "machine/device_catalog.h"
#include "memory/guest_memory.h"

namespace limen::machine {
namespace {

constexpr uint64_t kBiosGranularity = 0x1'0000, kMostBios = uint64_t{16} << 20;
constexpr std::string_view kSeaBios = "bios-256k.bin";

constexpr std::array<std::string_view, 5> kFolders = {"/usr/share/seabios", "/usr/share/ovmf",
                                                      "/usr/share/OVMF", "/usr/lib/ipxe/qemu",
                                                      "/usr/share/qemu"};

/// The Debian package that has a file of this name; "": not known.
std::string_view package_of(std::string_view name) {
  if (name.starts_with("bios") || name.starts_with("vgabios")) return "seabios";
  if (name.starts_with("OVMF")) return "ovmf";
  if (name.ends_with(".rom")) return "ipxe-qemu";
  return "";
}

bool has_flash(const MachineDescription& description) {
  return std::ranges::any_of(description.drives, [](const DriveDescription& drive) {
    return drive.interface == "pflash";
  });
}

device::FwCfg::Bytes little_endian(uint64_t value, size_t size) {
  device::FwCfg::Bytes bytes;
  for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<uint8_t>(value >> (8 * i)));
  return bytes;
}

}  // namespace

bool boots_firmware(const MachineDescription& description) {
  return description.type != "none" &&
         (description.kernel.empty() || !description.bios.empty() || has_flash(description));
}

Result<std::string> find_firmware(const std::string& name) {
  if (std::filesystem::exists(name)) return name;
  if (!name.contains('/'))
    for (const auto folder : kFolders) {
      const auto path = std::filesystem::path(folder) / name;
      if (std::filesystem::exists(path)) return path.string();
    }
  const auto file = std::filesystem::path(name).filename().string();
  if (const auto package = package_of(file); !package.empty())
    return fail("firmware '{}' is not there; Debian's package {} has it", name, package);
  return fail("firmware '{}' is not there", name);
}

Result<std::vector<std::byte>> read_firmware(const std::string& path, uint64_t most) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return fail("firmware '{}': {}", path, error.message());
  if (size > most)
    return fail("firmware '{}' has {} bytes: at most {} have a place", path, size, most);
  std::ifstream file(path, std::ios::binary);
  std::vector<std::byte> content(size);
  file.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(size));
  if (!file) return fail("firmware '{}' could not be read", path);
  return content;
}

Result<std::vector<std::byte>> read_bios(const MachineDescription& description) {
  if (!boots_firmware(description) || has_flash(description)) return std::vector<std::byte>{};
  const auto path =
      LIMEN_TRY(find_firmware(description.bios.empty() ? std::string(kSeaBios) : description.bios));
  auto content = LIMEN_TRY(read_firmware(path, kMostBios));
  if (content.empty() || content.size() % kBiosGranularity != 0)
    return fail("firmware '{}' has {} bytes: a multiple of {} is wanted", path, content.size(),
                kBiosGranularity);
  return content;
}

uint64_t memory_beside_ram(const MachineDescription& description, size_t bios_bytes) {
  uint64_t bytes = has_flash(description) ? kMostFlash : bios_bytes;
  for (const auto& device : description.devices) {
    const auto* known = find_device(device.driver);
    if (known == nullptr || known->bus != "PCI") continue;
    if (boots_firmware(description)) bytes += kMostRom;
  }
  return bytes;
}

Result<> describe_boot(const MachineDescription& description, device::FwCfg& fw_cfg) {
  using Key = device::FwCfg::Key;
  const auto& boot = description.boot;
  fw_cfg.set_number(Key::kBootMenu, static_cast<uint16_t>(boot.menu));
  if (boot.splash_time)
    fw_cfg.set_file("etc/boot-menu-wait",
                    little_endian(std::min<uint64_t>(*boot.splash_time, 0xFFFF), 2));
  if (boot.reboot_timeout)
    fw_cfg.set_file("etc/boot-fail-wait",
                    little_endian(std::min<uint64_t>(*boot.reboot_timeout, 0xFFFF), 4));
  for (const auto& item : description.firmware_items) fw_cfg.set_file(item.name, item.content);
  if (description.kernel.empty()) return {};
  const auto give = [&](const std::string& path, Key size, Key data) -> Result<> {
    const auto content = LIMEN_TRY(read_firmware(path, UINT32_MAX));
    const auto* bytes = reinterpret_cast<const uint8_t*>(content.data());
    fw_cfg.set_number(size, static_cast<uint32_t>(content.size()));
    fw_cfg.set(data, {bytes, bytes + content.size()});
    return {};
  };
  LIMEN_TRY(give(description.kernel, Key::kKernelSize, Key::kKernelData));
  if (!description.initrd.empty())
    LIMEN_TRY(give(description.initrd, Key::kInitrdSize, Key::kInitrdData));
  device::FwCfg::Bytes line(description.append.begin(), description.append.end());
  line.push_back(0);
  fw_cfg.set_number(Key::kCommandLineSize, static_cast<uint32_t>(line.size()));
  fw_cfg.set(Key::kCommandLineData, std::move(line));
  return {};
}

}  // namespace limen::machine
