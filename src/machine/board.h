// The board, pc or q35: which parts stand on it and how they are wired.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/loop_thread.h"
#include "base/result.h"
#include "boot/acpi/tables.h"
#include "device/character_backend.h"
#include "device/device.h"
#include "device/pvpanic.h"
#include "device/tpm/backend.h"
#include "display/input.h"
#include "display/screen.h"
#include "irq/interrupt_router.h"
#include "machine/characters.h"
#include "machine/description.h"
#include "machine/drive.h"
#include "machine/interrupts.h"
#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "net/network.h"
#include "pci/pci_bus.h"
#include "x86/cpuid.h"

namespace limen::device {
class Hpet;
class Pit8254;
class AcpiPm;
class I8042;
class FwCfg;
class ResetControl;
class Rtc;
}  // namespace limen::device
namespace limen::pci {
class Piix4Pm;
class RootPort;
class ShadowRam;
}  // namespace limen::pci
namespace limen::display {
class Ps2Input;
}
namespace limen::virtio {
class Balloon;
class Console;
}  // namespace limen::virtio

namespace limen::machine {

/// What the guest, through a device, or the person, through the terminal, asks of the machine.
/// Called on any thread.
struct BoardCallbacks {
  std::function<void()> power_off;
  std::function<void()> suspend;    ///< The guest entered S3.
  std::function<void()> hibernate;  ///< It entered S4: its memory is on a disk.
  std::function<void()> wake_up;    ///< Something ends its S3.
  std::function<void()> reset;
  std::function<void(int status)> exit;                    ///< isa-debug-exit.
  std::function<void(device::PanicEvent event)> panicked;  ///< pvpanic.
  std::function<void()> watchdog_expired;                  ///< i6300esb. On the loop's thread,
  std::function<bool()> machine_runs;                      ///< as this question.
  /// The guest turned off the power of root port `port`'s slot: remove_device() may follow.
  std::function<void(const std::string& port)> slot_powered_off;
  /// A program in the guest opened virtserialport `id`, or closed it.
  std::function<void(const std::string& id, bool open)> port_changed;
  /// The guest set its clock: seconds that it is now ahead of the host's UTC.
  std::function<void(int64_t offset)> clock_set;
  /// The local APIC of processor `index` has something for it.
  std::function<void(unsigned index)> interrupt;
  /// A disk failed; when its action is kStop, the machine must stop, and retry_disks() follows when
  /// it goes on.
  std::function<void(const DiskError&)> disk_error;
  /// The tray of a CD drive opened or closed: the drive's id, and what the device is called.
  std::function<void(const std::string& drive, const std::string& device, bool open)> tray_moved;
  /// A device that the guest need not agree to was removed: `id`, or its path without one.
  std::function<void(const std::string& id)> device_removed;
};

/// An I/O thread and what it was called.
struct IoThread {
  std::string id;
  std::unique_ptr<LoopThread> thread;
};

/// A USB device, for `info usb`.
struct UsbInformation {
  unsigned bus = 0;      ///< In the order in which controllers were made.
  unsigned address = 0;  ///< That the guest gave it; 0: none yet.
  unsigned port = 0;
  std::string speed = {};  ///< In Mb/s.
  std::string product = {};
  std::string id = {};
};

/// What stands behind a TPM's interface, which has it once there is one.
struct Tpm {
  TpmDescription description = {};
  std::unique_ptr<device::TpmBackend> backend = {};
  std::string model = {};  ///< "tpm-tis", "tpm-crb", or "" while nobody has it.
};

class DeviceFactory;

class Board {
 public:
  /// `memory`, `loop` and `characters` outlive the board. `tsc_hz`: of the time-stamp counter that
  /// the guest reads. `apic_ids`: one per processor, that of the bootstrap processor first. `cpuid`
  /// says what the local APICs can do.
  Board(memory::GuestMemory& memory, EventLoop& loop, Characters& characters,
        BoardCallbacks callbacks, uint64_t tsc_hz, const x86::CpuidTable& cpuid,
        unsigned physical_address_bits, std::span<const uint32_t> apic_ids);
  ~Board();
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  /// Others than this process may write the guest's memory. Before populate().
  void share_memory() { memory_shared_ = true; }
  /// Opens the disks that the description names and plugs in what it names. `bios`: what stands at
  /// the reset vector, if the description has no flash; empty: a loader does firmware's work.
  /// `chips`: the accelerator's, which outlive the board; nullptr: it has none.
  Result<> populate(const MachineDescription& description, std::span<const std::byte> bios = {},
                    vcpu::InterruptChips* chips = nullptr);

  /// All parts as after power-on; without firmware, BARs assigned as it would. While no processor
  /// runs.
  Result<> reset();
  /// Back from S3: as reset(), but what keeps its power then stays as it is (Device::resume()), and
  /// firmware is told. While no processor runs.
  Result<> resume();

  // Hot-plug, behind root ports. While no processor runs.

  /// Makes the device and plugs it in: QMP's device_add.
  Result<> plug(const DeviceDescription& description);
  /// Asks the guest to let device `id` go: device_del. Fails where it cannot be asked.
  Result<> request_unplug(const std::string& id);
  /// Removes what is in the slot of root port `port`: its id, "" if it has none or none is there.
  std::string remove_device(const std::string& port);

  /// Makes a back end for cards that come later: QMP's netdev_add.
  Result<> add_netdev(const net::BackendDescription& backend);

  // While nothing uses them.
  Result<> add_io_thread(const std::string& id);
  void remove_io_thread(const std::string& id);
  Result<> add_throttle_group(const std::string& id, const block::ThrottleLimits& limits);
  void remove_throttle_group(const std::string& id);
  [[nodiscard]] const std::vector<IoThread>& io_threads() const { return io_threads_; }

  /// Waits for the disks and flushes them.
  Result<> flush_disks();
  /// Makes the requests again that failed and were kept (werror=stop and the like).
  void retry_disks();
  /// For the monitor: limits, CD trays, errors that are kept.
  [[nodiscard]] std::vector<Drive>& drives() { return drives_; }
  [[nodiscard]] DriveOpener& drive_opener() { return *opener_; }

  /// The cards' other side; null where there is neither a card nor a back end.
  [[nodiscard]] net::Network* network() { return network_.get(); }
  /// The power button. Thread-safe.
  void press_power_button();
  /// An NMI for every processor, as from a button on the chassis. Thread-safe.
  void inject_nmi();
  /// Where what a person does with keyboard and mouse goes in.
  [[nodiscard]] display::Input& input() { return input_; }
  /// It has PCI, which board microvm need not have.
  [[nodiscard]] bool pci() const { return pci_; }
  [[nodiscard]] device::AcpiPm& acpi_pm() { return *acpi_pm_; }
  /// The processors start at the reset vector, in firmware.
  [[nodiscard]] bool firmware() const { return firmware_; }
  [[nodiscard]] pci::PciBus& bus() { return *bus_; }
  [[nodiscard]] memory::IoSpace& ports() { return ports_; }
  [[nodiscard]] memory::IoSpace& mmio() { return mmio_; }
  [[nodiscard]] Interrupts& interrupts() { return *interrupts_; }
  /// What the first display device shows; nullptr: there is none.
  [[nodiscard]] display::Screen* screen() {
    return displays_.empty() ? nullptr : displays_.front().screen.get();
  }
  /// That of the device with this id; nullptr: no such display.
  [[nodiscard]] display::Screen* screen(std::string_view id);
  [[nodiscard]] const std::vector<Tpm>& tpms() const { return tpms_; }
  /// By controller and port.
  [[nodiscard]] std::vector<UsbInformation> usb_devices() const;
  /// nullptr: there is none.
  [[nodiscard]] virtio::Balloon* balloon() { return balloon_; }

 private:
  friend class DeviceFactory;

  /// What is in a slot.
  struct Plugged {
    std::string id;
    std::string drive;  ///< That it uses; "": none.
    pci::PciFunction* function;
    pci::RootPort* port;
  };

  /// A device that makes a picture, and who looks at it.
  struct Display {
    std::string id;
    display::Source* source;
    std::unique_ptr<display::Screen> screen;
  };

  Result<> open_drives(const MachineDescription& description);
  [[nodiscard]] std::string free_drive_name(const MachineDescription& description,
                                            const DriveDescription& drive) const;
  /// The device that had them is gone.
  void release_drives(const void* user);
  Result<> open_tpms(const MachineDescription& description);
  Result<> make_network();
  Result<> open_network(const MachineDescription& description);
  void warn_of_loose_ends() const;
  void build_interrupts(vcpu::InterruptChips* chips);
  Result<> build_chipset(const MachineDescription& description);
  Result<> finish_reset();
  Result<> build_q35(device::ResetControl& reset_control);
  Result<> build_pc(device::ResetControl& reset_control);
  /// Where the next virtio device without PCI stands.
  Result<boot::acpi::MmioDevice> next_virtio_place();
  Result<> install_firmware(std::span<const std::byte> bios);
  /// The flash of -drive if=pflash; the first's bytes, empty if there is none.
  Result<std::span<std::byte>> install_flash();
  /// What the ACPI tables say of the board as firmware has set it up by now.
  [[nodiscard]] boot::acpi::Board acpi_board(const MachineDescription& description) const;
  Result<> describe_to_firmware(const MachineDescription& description);
  Result<> build_serials(const MachineDescription& description);

  memory::GuestMemory& memory_;
  bool memory_shared_ = false;
  EventLoop& loop_;
  Characters& characters_;
  const BoardCallbacks callbacks_;
  memory::IoSpace ports_{"ports"};
  memory::IoSpace mmio_{"mmio"};

  std::unique_ptr<Interrupts> interrupts_;
  std::unique_ptr<irq::InterruptSink> pci_lines_;
  std::unique_ptr<irq::InterruptSink> hpet_lines_;

  // Behind the devices, which refer to them.
  display::Input input_;
  bool firmware_ = false;      ///< Starts at the reset vector.
  std::span<std::byte> bios_;  ///< Empty: there is none, or it is in flash.
  std::unique_ptr<pci::ShadowRam> shadow_ram_;
  std::vector<IoThread> io_threads_;
  std::unique_ptr<DriveOpener> opener_;
  std::vector<Drive> drives_;
  std::unique_ptr<device::CharacterBackend> nowhere_;
  std::vector<Tpm> tpms_;
  std::unique_ptr<net::Network> network_;

  std::unique_ptr<pci::PciBus> bus_;
  std::unique_ptr<DeviceFactory> factory_;
  std::vector<Plugged> plugged_;
  std::vector<Display> displays_;
  virtio::Balloon* balloon_ = nullptr;  // among `devices_`
  device::AcpiPm* acpi_pm_ = nullptr;   // among `devices_`
  device::FwCfg* fw_cfg_ = nullptr;     // among `devices_`
  device::Rtc* rtc_ = nullptr;          // among `devices_`
  BootDescription boot_ = {};           ///< `once` until the first reset.
  bool powered_on_ = false;
  pci::Piix4Pm* piix4_pm_ = nullptr;  // among `devices_`, of board pc
  std::string type_;
  bool pci_ = true;
  bool acpi_ = true;             ///< There are tables.
  unsigned virtio_devices_ = 0;  ///< Without PCI.
  std::vector<uint32_t> apic_ids_;
  x86::CpuidTable cpuid_;
  unsigned physical_address_bits_;
  uint64_t tsc_hz_;
  /// In the order in which they are reset; destroyed from the last on.
  std::vector<std::unique_ptr<device::Device>> devices_;
  std::unique_ptr<display::Ps2Input> ps2_input_;
};

}  // namespace limen::machine
