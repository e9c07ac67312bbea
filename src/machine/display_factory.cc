// Devices that make a picture.
#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "base/size_text.h"
#include "display/bochs_display.h"
#include "display/vga/vga.h"
#include "machine/device_factory.h"
#include "virtio/gpu/gpu.h"
#include "virtio/virtio_pci.h"

namespace limen::machine {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kDefaultVgaMegabytes = 16;
constexpr uint64_t kDefaultVirtioVgaMegabytes = 8;
constexpr std::string_view kDefaultBochsMemory = "16M";
constexpr std::string_view kVirtioVga = "virtio-vga";

/// A power of two, as a BAR is.
Result<uint64_t> video_memory(std::string_view driver, const DeviceProperties& properties) {
  if (driver == "VGA")
    return std::bit_ceil(properties.number("vgamem_mb", kDefaultVgaMegabytes) * kMiB);
  if (driver == kVirtioVga)
    return std::bit_ceil(properties.number("vgamem_mb", kDefaultVirtioVgaMegabytes) * kMiB);
  if (driver != "bochs-display") return 0;
  const auto bytes = LIMEN_TRY(parse_size(properties.text("vgamem", kDefaultBochsMemory), 1));
  if (bytes < 4 * kMiB) return fail("bochs-display: video memory too small");
  if (bytes > 256 * kMiB) return fail("bochs-display: video memory too big");
  return std::bit_ceil(bytes);
}

std::optional<display::EdidProperties> edid_of(const DeviceProperties& properties) {
  if (!properties.boolean("edid", true)) return {};
  display::EdidProperties edid;
  // 0: the default's.
  if (const auto width = properties.number("xres", 0)) edid.width = static_cast<unsigned>(width);
  if (const auto height = properties.number("yres", 0)) edid.height = static_cast<unsigned>(height);
  return edid;
}

}  // namespace

bool is_display(std::string_view driver) {
  constexpr std::array<std::string_view, 4> kDisplays = {"VGA", "bochs-display", "virtio-gpu-pci",
                                                         "virtio-vga"};
  return std::ranges::find(kDisplays, driver) != kDisplays.end();
}

uint64_t display_memory(const MachineDescription& description) {
  uint64_t bytes = 0;
  for (const auto& device : description.devices)
    // What is wrong with it is said when it is made.
    bytes += video_memory(device.driver, DeviceProperties(device)).value_or(0);
  return bytes;
}

display::Screen* Board::screen(std::string_view id) {
  const auto found = std::ranges::find(displays_, id, &Display::id);
  return id.empty() || found == displays_.end() ? nullptr : found->screen.get();
}

/// Unlike others it is not one that may leave its slot: viewers hold on to its screen.
Result<> DeviceFactory::add_display(const DeviceProperties& properties,
                                    std::unique_ptr<pci::PciFunction> function,
                                    display::Source& source) {
  pci::RootPort* port = nullptr;
  auto* bus = LIMEN_TRY(bus_of(properties, port));
  LIMEN_TRY(give_rom(properties, *function));
  LIMEN_TRY(bus->attach(*function, properties.text("addr")));
  board_.devices_.push_back(std::move(function));
  board_.displays_.push_back({properties.text("id"), &source, std::make_unique<display::Screen>()});
  board_.displays_.back().screen->connect(source);
  return {};
}

Result<> DeviceFactory::create_vga(const DeviceDescription& description,
                                   const DeviceProperties& properties) {
  const auto bytes = LIMEN_TRY(video_memory(description.driver, properties));
  const auto memory = LIMEN_TRY(board_.memory_.reserve(bytes));
  auto function = std::make_unique<display::vga::Vga>(
      display::vga::VgaProperties{.name = properties.text("id", description.driver),
                                  .edid = edid_of(properties)},
      board_.ports_, board_.mmio_, memory);
  auto& source = function->source();
  return add_display(properties, std::move(function), source);
}

Result<> DeviceFactory::create_bochs_display(const DeviceDescription& description,
                                             const DeviceProperties& properties) {
  const auto bytes = LIMEN_TRY(video_memory(description.driver, properties));
  const auto memory = LIMEN_TRY(board_.memory_.reserve(bytes));
  auto function = std::make_unique<display::BochsDisplay>(
      display::BochsDisplayProperties{.name = properties.text("id", description.driver),
                                      .edid = edid_of(properties)},
      memory);
  auto& source = *function;
  return add_display(properties, std::move(function), source);
}

/// virtio-gpu-pci, and virtio-vga, which is a VGA until a driver comes.
Result<> DeviceFactory::create_gpu(const DeviceDescription& description,
                                   const DeviceProperties& properties) {
  virtio::GpuProperties gpu;
  gpu.edid = properties.boolean("edid", gpu.edid);
  if (const auto width = properties.number("xres", 0)) gpu.width = static_cast<unsigned>(width);
  if (const auto height = properties.number("yres", 0)) gpu.height = static_cast<unsigned>(height);
  if (const auto text = properties.text("max_hostmem"); !text.empty())
    gpu.max_hostmem = LIMEN_TRY(parse_size(text, 1));
  virtio::VirtioPciProperties pci;
  pci.name = properties.text("id", description.driver);
  pci.vectors = static_cast<unsigned>(properties.number("vectors", 0));
  if (find_device(description.driver)->driver == kVirtioVga) {
    pci.video_memory =
        LIMEN_TRY(board_.memory_.reserve(LIMEN_TRY(video_memory(kVirtioVga, properties))));
    auto vga =
        std::make_unique<display::vga::VgaCore>(board_.ports_, board_.mmio_, pci.video_memory);
    gpu.vga = vga.get();
    board_.devices_.push_back(std::move(vga));
  }
  auto device = std::make_unique<virtio::Gpu>(gpu, board_.memory_);
  auto& source = *device;
  return add_display(properties,
                     std::make_unique<virtio::VirtioPci>(pci, std::move(device), board_.memory_),
                     source);
}

}  // namespace limen::machine
