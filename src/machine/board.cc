#include "machine/board.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <future>
#include <utility>

#include "block/open_image.h"
#include "boot/acpi/tables.h"
#include "boot/memory_map.h"
#include "device/acpi_pm.h"
#include "device/character/basic_backends.h"
#include "device/fw_cfg.h"
#include "device/hpet.h"
#include "device/i8042.h"
#include "device/pit_8254.h"
#include "device/rtc.h"
#include "device/system_control.h"
#include "device/tpm/swtpm.h"
#include "device/uart_16550.h"
#include "display/ps2_input.h"
#include "machine/chipset.h"
#include "machine/device_factory.h"
#include "machine/firmware.h"
#include "machine/ide_places.h"
#include "machine/microvm.h"
#include "machine/objects.h"
#include "pci/piix3_isa.h"
#include "pci/piix4_pm.h"
#include "pci/root_port.h"
#include "pci/shadow_ram.h"
#include "x86/cpu_features.h"

namespace limen::machine {
namespace {

struct SerialPort {
  uint16_t base;
  unsigned line;
};
constexpr std::array<SerialPort, 4> kSerialPorts = {
    {{0x3F8, 4}, {0x2F8, 3}, {0x3E8, 4}, {0x2E8, 3}}};
constexpr unsigned kKeyboardLine = 1, kRtcLine = 8, kMouseLine = 12;

/// Ports for BARs: above what the chipset's own parts occupy.
constexpr pci::ResourceWindow kPortWindow = {0xC000, 0x4000};
constexpr pci::ResourceWindow kMemoryWindow = {boot::kPciWindowStart,
                                               boot::kPciWindowEnd - boot::kPciWindowStart};

/// As CMOS has it; board pc's default is disk, CD, network.
std::array<uint8_t, 3> boot_order_codes(const BootDescription& boot) {
  const std::string letters = !boot.once.empty()    ? boot.once
                              : !boot.order.empty() ? boot.order
                                                    : "cad";
  std::array<uint8_t, 3> codes{};
  size_t place = 0;
  for (const char letter : letters) {
    const uint8_t code = letter == 'a'   ? 1
                         : letter == 'c' ? 2
                         : letter == 'd' ? 3
                         : letter == 'n' ? 4
                                         : 0;
    if (code != 0 && place < codes.size()) codes[place++] = code;
  }
  return codes;
}

/// What the real-time clock shows before the guest sets it.
std::function<std::chrono::system_clock::time_point()> wall_clock(const ClockDescription& clock) {
  using std::chrono::system_clock;
  switch (clock.base) {
    case ClockDescription::Base::kUtc:
      break;
    case ClockDescription::Base::kLocalTime:
      return [] {
        const auto now = system_clock::now();
        const auto seconds = system_clock::to_time_t(now);
        std::tm local{};
        ::localtime_r(&seconds, &local);
        return now + std::chrono::seconds(local.tm_gmtoff);
      };
    case ClockDescription::Base::kDate: {
      const auto ahead = system_clock::from_time_t(clock.date) - system_clock::now();
      return [ahead] { return system_clock::now() + ahead; };
    }
  }
  return {};
}

/// Has a TPM take up the state that the guest saved before S3, or else begin anew: TPM2_Startup
/// (TPM 2.0 Library Specification, Part 3, 9.3).
void start_again(device::TpmBackend& tpm) {
  for (const uint8_t from : {uint8_t{1}, uint8_t{0}}) {  // TPM_SU_STATE, TPM_SU_CLEAR
    std::promise<device::TpmBackend::Response> answer;
    tpm.execute(0, {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, from},
                [&answer](auto response) { answer.set_value(std::move(response)); });
    const auto response = answer.get_future().get();
    const auto code = std::span(response).last(4);  // the whole answer is a header
    if (std::ranges::all_of(code, [](uint8_t byte) { return byte == 0; })) return;
  }
}

/// Wires of one part of its own to every line of the board, so that it shares lines with others.
class Lines final : public irq::InterruptSink {
 public:
  explicit Lines(irq::InterruptRouter& router) {
    for (unsigned line = 0; line < wires_.size(); ++line) wires_[line] = router.connect(line);
  }
  void set_line(unsigned line, bool level) override {
    if (line < wires_.size()) wires_[line].set(level);
  }
  [[nodiscard]] bool passes(unsigned line) override {
    return line < wires_.size() && wires_[line].passes();
  }
  void on_acknowledge(unsigned line, std::function<void()> acknowledged) override {
    if (line < wires_.size()) wires_[line].on_acknowledge(std::move(acknowledged));
  }

 private:
  std::array<irq::InterruptLine, irq::InterruptRouter::kLines> wires_;
};

}  // namespace

Board::Board(memory::GuestMemory& memory, EventLoop& loop, Characters& characters,
             BoardCallbacks callbacks, uint64_t tsc_hz, const x86::CpuidTable& cpuid,
             unsigned physical_address_bits, std::span<const uint32_t> apic_ids)
    : memory_(memory),
      loop_(loop),
      characters_(characters),
      callbacks_(std::move(callbacks)),
      apic_ids_(apic_ids.begin(), apic_ids.end()),
      cpuid_(cpuid),
      physical_address_bits_(physical_address_bits),
      tsc_hz_(tsc_hz) {
  nowhere_ = std::make_unique<device::NullBackend>();
}

void Board::build_interrupts(vcpu::InterruptChips* chips) {
  interrupts_ = std::make_unique<Interrupts>(
      Interrupts::Config{.ports = ports_,
                         .mmio = mmio_,
                         .memory = memory_,
                         .apic_ids = apic_ids_,
                         .cpuid = cpuid_,
                         .physical_address_bits = physical_address_bits_,
                         .tsc_hz = tsc_hz_,
                         .chips = chips,
                         .notify = callbacks_.interrupt});
  pci_lines_ = std::make_unique<Lines>(interrupts_->router());
  hpet_lines_ = std::make_unique<Lines>(interrupts_->router());
}

Board::~Board() {
  for (auto& display : displays_) display.screen->disconnect(*display.source);
  while (!devices_.empty()) devices_.pop_back();
  if (!bios_.empty()) memory_.unmap({boot::kHighRamStart - bios_.size()}, bios_);
}

Result<> Board::populate(const MachineDescription& description, std::span<const std::byte> bios,
                         vcpu::InterruptChips* chips) {
  build_interrupts(chips);
  type_ = description.type;
  pci_ = has_pci(description);
  acpi_ = description.acpi;
  bus_ = std::make_unique<pci::PciBus>(
      type_ == "pc" ? "pci.0" : "pcie.0",
      pci::BusConnections{&ports_, &mmio_, &interrupts_->messages(), &memory_});
  firmware_ = boots_firmware(description);
  factory_ = std::make_unique<DeviceFactory>(*this);
  LIMEN_TRY(open_drives(description));
  if (firmware_) LIMEN_TRY(install_firmware(bios));
  LIMEN_TRY(build_chipset(description));
  LIMEN_TRY(build_serials(description));
  LIMEN_TRY(open_network(description));
  LIMEN_TRY(open_tpms(description));
  LIMEN_TRY(factory_->create_all(description));
  if (firmware_) LIMEN_TRY(describe_to_firmware(description));
  warn_of_loose_ends();
  return {};
}

Result<> Board::open_tpms(const MachineDescription& description) {
  for (const auto& tpm : description.tpms) {
    const auto character =
        std::ranges::find(description.characters, tpm.character, &CharacterDescription::id);
    if (character == description.characters.end())
      return fail("-tpmdev emulator,id={}: there is no -chardev '{}'", tpm.id, tpm.character);
    auto backend = device::Swtpm::connect(character->address);
    if (!backend) {
      Error error = std::move(backend).error();
      error.message = "-tpmdev emulator,id=" + tpm.id + ": " + error.message;
      return std::unexpected(std::move(error));
    }
    tpms_.push_back({.description = tpm, .backend = *std::move(backend)});
  }
  return {};
}

Result<> Board::open_drives(const MachineDescription& description) {
  opener_ = std::make_unique<DriveOpener>(callbacks_.disk_error);
  for (const auto& object : description.objects)
    if (object.type == "iothread")
      LIMEN_TRY(add_io_thread(object.id));
    else if (object.type == "throttle-group")
      LIMEN_TRY(add_throttle_group(object.id, LIMEN_TRY(throttle_limits(object))));
  const auto placed = LIMEN_TRY(place_ide_drives(description));
  for (const auto& wanted : placed) {
    auto named = wanted;
    if (named.id.empty()) named.id = free_drive_name(description, named);
    drives_.push_back(LIMEN_TRY(opener_->open(named)));
  }
  for (const auto& node : description.child_nodes) drives_.push_back({.description = node});
  return {};
}

/// What QEMU calls a drive without id=: by its place on its bus.
std::string Board::free_drive_name(const MachineDescription& description,
                                   const DriveDescription& drive) const {
  const auto taken = [&](const std::string& name) {
    const auto has_it = [&](const DriveDescription& other) { return other.id == name; };
    return std::ranges::any_of(description.drives, has_it) ||
           std::ranges::any_of(drives_, has_it, &Drive::description);
  };
  if (drive.interface == "ide")
    return fmt::format("ide{}-{}{}", *drive.bus, drive.cdrom ? "cd" : "hd", *drive.unit);
  for (unsigned place = 0;; ++place) {
    const auto name = fmt::format("virtio{}", place);
    if (!taken(name)) return name;
  }
}

Result<> Board::add_io_thread(const std::string& id) {
  auto thread = LIMEN_TRY(LoopThread::create("IO " + id));
  io_threads_.push_back({id, std::move(thread)});
  return {};
}

void Board::remove_io_thread(const std::string& id) {
  std::erase_if(io_threads_, [&](const IoThread& each) { return each.id == id; });
}

Result<> Board::add_throttle_group(const std::string& id, const block::ThrottleLimits& limits) {
  return opener_->add_group(id, limits);
}

void Board::remove_throttle_group(const std::string& id) { opener_->remove_group(id); }

void Board::retry_disks() {
  for (auto& drive : drives_)
    if (drive.errors != nullptr) drive.errors->retry();
}

Result<> Board::build_chipset(const MachineDescription& description) {
  using namespace limen::device;
  namespace acpi = limen::boot::acpi;
  const auto add = [this]<typename T>(std::unique_ptr<T> part) -> T& {
    T& reference = *part;
    devices_.push_back(std::move(part));
    return reference;
  };
  const auto reset_machine = callbacks_.reset;
  auto& router = interrupts_->router();

  Pit8254* pit = nullptr;
  auto* chips = interrupts_->chips();
  const bool their_timer = chips != nullptr && chips->complete();
  if (description.pit && their_timer)
    LIMEN_TRY(chips->create_timer());
  else if (description.pit)
    pit = &add(std::make_unique<Pit8254>(ports_, router.connect(0), loop_));
  Rtc::Config clock;
  clock.time_set = callbacks_.clock_set;
  clock.wall_clock = wall_clock(description.clock);
  clock.catch_up = description.clock.catch_up;
  clock.memory_above_4g = memory_.regions().back().start.value >= boot::kHighRamStart
                              ? memory_.regions().back().size
                              : 0;
  clock.memory_below_4g = memory_.size() - clock.memory_above_4g;
  clock.processors = static_cast<unsigned>(apic_ids_.size());
  clock.boot_order = boot_order_codes(description.boot);
  clock.alarm = [this] { acpi_pm_->ring_alarm(); };
  const bool microvm = type_ == "microvm";
  if (!microvm || description.microvm.rtc)
    rtc_ = &add(std::make_unique<Rtc>(ports_, router.connect(kRtcLine), loop_, clock));
  boot_ = description.boot;
  if (description.hpet) {
    Hpet::Config config{.base = boot::kHpetBase};
    config.legacy_replaced = [pit, timer = their_timer ? chips : nullptr](bool replaced) {
      if (pit != nullptr) pit->set_interrupt_enabled(!replaced);
      if (timer != nullptr) timer->set_timer_interrupt_enabled(!replaced);
    };
    add(std::make_unique<Hpet>(mmio_, *hpet_lines_, &interrupts_->messages(), loop_, config));
  }
  if (!microvm) {
    auto& keyboard = add(std::make_unique<I8042>(
        ports_, router.connect(kKeyboardLine), router.connect(kMouseLine),
        I8042::Callbacks{
            .reset = reset_machine, .a20 = {}, .used = [this] { acpi_pm_->wake_up(); }}));
    ps2_input_ = std::make_unique<display::Ps2Input>(input_, keyboard);
  }
  add(std::make_unique<SystemControlPortA>(ports_, reset_machine, [](bool) {}));
  add(std::make_unique<PostCodePort>(ports_));
  const auto processors = static_cast<uint16_t>(apic_ids_.size());
  fw_cfg_ = &add(
      std::make_unique<FwCfg>(ports_, FwCfg::Config{.ram_bytes = description.memory_bytes,
                                                    .processors = processors,
                                                    .most_processors = processors,
                                                    .memory = firmware_ ? &memory_ : nullptr}));
  AcpiPm::Config power{.base = pci_ ? uint16_t{0} : acpi::kPm1aEventPort,
                       .smi_command_port = acpi::kSmiCommandPort,
                       .acpi_enable = acpi::kAcpiEnable,
                       .acpi_disable = acpi::kAcpiDisable,
                       .soft_off_type = acpi::kSoftOffSleepType};
  if (can_suspend_to_ram(description)) power.suspend_type = acpi::kSuspendSleepType;
  if (can_suspend_to_disk(description)) power.hibernate_type = acpi::kHibernateSleepType;
  acpi_pm_ =
      &add(std::make_unique<AcpiPm>(ports_, router.connect(acpi::kSciInterrupt), loop_, power,
                                    AcpiPm::Callbacks{.power_off = callbacks_.power_off,
                                                      .suspend = callbacks_.suspend,
                                                      .hibernate = callbacks_.hibernate,
                                                      .wake_up = callbacks_.wake_up}));

  // Where there is a host bridge, the reset control register lies inside its ports, and it passes
  // it on.
  auto& reset_control = add(std::make_unique<ResetControl>(ports_, reset_machine));
  if (!pci_) return {};
  return type_ == "pc" ? build_pc(reset_control) : build_q35(reset_control);
}

Result<> Board::build_serials(const MachineDescription& description) {
  if (type_ == "microvm" && !description.microvm.isa_serial) return {};
  for (size_t i = 0; i < description.serials.size() && i < kSerialPorts.size(); ++i) {
    if (description.serials[i].empty()) continue;
    auto* backend = LIMEN_TRY(characters_.take(description.serials[i]));
    devices_.push_back(std::make_unique<device::Uart16550>(
        ports_, kSerialPorts[i].base, interrupts_->router().connect(kSerialPorts[i].line), *backend,
        loop_));
  }
  return {};
}

Result<boot::acpi::MmioDevice> Board::next_virtio_place() {
  return virtio_place(virtio_devices_++, acpi_);
}

void Board::press_power_button() { acpi_pm_->press_power_button(); }

void Board::inject_nmi() { interrupts_->inject_nmi(); }

Result<> Board::reset() {
  for (auto& device : devices_) device->reset();
  // The first is that of power-on.
  if (std::exchange(powered_on_, true) && !boot_.once.empty()) {
    boot_.once.clear();
    if (rtc_ != nullptr) rtc_->set_boot_order(boot_order_codes(boot_));
  }
  return finish_reset();
}

Result<> Board::resume() {
  for (auto& device : devices_) device->resume();
  if (firmware_ && rtc_ != nullptr) rtc_->set_resumed();
  for (auto& tpm : tpms_)
    if (!firmware_ && !tpm.model.empty()) start_again(*tpm.backend);
  return finish_reset();
}

/// The interrupt controllers, and what firmware would do were there any.
Result<> Board::finish_reset() {
  interrupts_->reset();
  if (firmware_ || !pci_) return {};
  pci::ResourceWindow memory = kMemoryWindow;
  pci::ResourceWindow ports = kPortWindow;
  LIMEN_TRY(pci::assign_root_ports(*bus_, memory, ports));
  if (type_ != "pc") return pci::assign_resources(*bus_, memory, ports);
  return pci::assign_resources(*bus_, memory, ports, [](unsigned device, unsigned pin) {
    return unsigned{kPcPirqRoutes[pci::Piix3Isa::pirq(device, pin)]};
  });
}

Result<> Board::flush_disks() {
  Result<> outcome;
  for (auto& drive : drives_) {
    if (drive.image == nullptr) continue;
    if (auto drained = drive.image->drain(); !drained)
      outcome = fail("flushing {}: {}", drive.description.file, drained.error().message);
  }
  return outcome;
}

}  // namespace limen::machine
