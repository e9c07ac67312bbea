// What the options add up to while they are read; the defaults come last, as in QEMU.
#pragma once

#include <array>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/result.h"
#include "machine/description.h"
#include "qemu/command_line.h"
#include "qemu/key_values.h"

namespace limen::qemu {

class Builder {
 public:
  explicit Builder(std::string_view program) : program_(program) {}

  // One per option; `argument` is the word behind it.
  Result<> machine(const std::string& argument);
  Result<> accelerator(const std::string& argument);
  Result<> enable_kvm(const std::string& argument);
  Result<> cpu(const std::string& argument);
  Result<> smp(const std::string& argument);
  Result<> memory(const std::string& argument);
  Result<> kernel(const std::string& argument);
  Result<> initrd(const std::string& argument);
  Result<> append(const std::string& argument);
  Result<> drive(const std::string& argument);
  Result<> block_device(const std::string& argument);
  Result<> preallocate(const std::string& argument);
  Result<> overcommit(const std::string& argument);
  Result<> boot(const std::string& argument);
  Result<> audio_device(const std::string& argument);
  Result<> trace_events(const std::string& argument);
  Result<> cdrom(const std::string& argument);
  Result<> hard_disk_a(const std::string& argument);
  Result<> hard_disk_b(const std::string& argument);
  Result<> hard_disk_c(const std::string& argument);
  Result<> hard_disk_d(const std::string& argument);
  Result<> snapshot(const std::string& argument);
  Result<> device(const std::string& argument);
  Result<> object(const std::string& argument);  // builder_objects.cc
  Result<> character(const std::string& argument);
  Result<> serial(const std::string& argument);
  Result<> monitor(const std::string& argument);
  Result<> control_monitor(const std::string& argument);
  Result<> pretty_control_monitor(const std::string& argument);
  Result<> general_monitor(const std::string& argument);
  Result<> escape_key(const std::string& argument);
  Result<> start_paused(const std::string& argument);
  Result<> uuid(const std::string& argument);
  Result<> action(const std::string& argument);
  Result<> global(const std::string& argument);
  Result<> no_hpet(const std::string& argument);
  Result<> daemonize(const std::string& argument);
  Result<> pid_file(const std::string& argument);
  Result<> messages(const std::string& argument);
  Result<> sandbox(const std::string& argument);
  Result<> run_as(const std::string& argument);
  Result<> run_with(const std::string& argument);
  Result<> add_descriptor(const std::string& argument);
  Result<> read_configuration(const std::string& argument);
  Result<> display(const std::string& argument);
  Result<> bios(const std::string& argument);
  Result<> firmware_item(const std::string& argument);
  Result<> watchdog_action(const std::string& argument);
  Result<> tpm_device(const std::string& argument);
  Result<> vga(const std::string& argument);
  Result<> usb(const std::string& argument);
  Result<> usb_device(const std::string& argument);
  // In builder_display.cc.
  Result<> vnc(const std::string& argument);
  Result<> keyboard_layout(const std::string& argument);
  Result<> network(const std::string& argument);
  Result<> nic(const std::string& argument);
  Result<> netdev(const std::string& argument);
  Result<> clock(const std::string& argument);
  Result<> name(const std::string& argument);
  Result<> no_acpi(const std::string& argument);
  Result<> no_graphic(const std::string& argument);
  Result<> no_defaults(const std::string& argument);
  Result<> no_reboot(const std::string& argument);
  Result<> no_shutdown(const std::string& argument);
  // In builder_debug.cc.
  Result<> debugger(const std::string& argument);
  Result<> debugger_at_default(const std::string& argument);
  Result<> log_items(const std::string& argument);
  Result<> log_file(const std::string& argument);
  Result<> perf_map(const std::string& argument);
  Result<> ignore(const std::string& argument);
  Result<> version(const std::string& argument);
  Result<> help(const std::string& argument);

  /// True once something is to be printed in place of running.
  [[nodiscard]] bool printing() const { return result_.print.has_value(); }
  /// Fills in the defaults and checks what only the whole shows.
  Result<CommandLine> finish();

 private:
  void print(std::string text) { result_.print = std::move(text); }
  Result<> microvm(const KeyValues& values);
  Result<> machine_accelerator(const KeyValues& values);  // builder_accelerator.cc
  Result<> finish_accelerator();                          // builder_accelerator.cc
  Result<std::string> add_backend(const std::string& specification, const std::string& label);
  Result<> add_monitor(const std::string& specification, bool control, bool pretty);
  void add_default_console();
  void add_event_pattern(const std::string& pattern);  // builder_debug.cc
  // In builder_objects.cc:
  /// Fails unless there is an object `id` whose type begins so.
  Result<> find_object(std::string_view id, std::string_view type) const;
  Result<> finish_memory();
  void finish_sleep_states();  // builder_process.cc
  // In builder_devices.cc:
  Result<> finish_serial_devices();
  void finish_vga();
  void finish_usb();
  // In builder_block.cc:
  Result<> add_node(const nlohmann::json& options);
  Result<> hard_disk(const std::string& file, unsigned index);
  Result<> finish_drives();
  Result<> check_block_references(const machine::DeviceDescription& device) const;
  Result<> connect_monitors();
  Result<> check_monitors() const;
  Result<> check_references() const;
  Result<> add_netdev(const net::Parameters& parameters, const std::string& origin);
  void add_nic(std::string driver, const std::string& netdev, const std::string& mac,
               const std::string& address);
  Result<> finish_network();
  // In builder_display.cc:
  Result<> add_vnc(const std::string& options, const std::string& origin);
  Result<> add_web(const KeyValues& values, const std::string& origin);

  std::string program_;
  CommandLine result_;
  std::vector<std::string> serials_;              ///< -serial, as given.
  std::vector<machine::DeviceDescription> nics_;  ///< Of -nic and -net.
  bool network_chosen_ = false;
  bool memory_chosen_ = false;  ///< -m was given.
  std::set<std::string> audio_devices_;
  std::set<std::tuple<std::string, uint64_t, uint64_t>> drive_places_;  ///< if=, bus, unit.
  bool snapshot_ = false;
  bool no_defaults_ = false;
  bool no_graphic_ = false;
  struct Monitor {
    std::string specification;
    bool control = false;
    bool pretty = false;
  };
  std::vector<Monitor> monitors_;  ///< -monitor and -qmp, as given.
  bool monitor_chosen_ = false;
  bool display_chosen_ = false;
  std::string vga_;                             ///< -vga, as given.
  bool usb_ = false;                            ///< -usb, or what asks for it.
  std::array<std::string, 2> flash_;            ///< Nodes of -machine pflash0= and pflash1=.
  std::map<std::string, bool> sleep_disabled_;  ///< Of -global, by PART.disable_sN.
  /// One option's: the first that is there is taken.
  struct Accelerators {
    std::string option;  ///< As given.
    std::vector<std::string> names;
    std::map<std::string, std::string> properties;
  };
  std::vector<Accelerators> accelerators_;            ///< Of -accel, in order.
  std::optional<Accelerators> machine_accelerators_;  ///< Of -machine: where there is no -accel.
};

/// One option of the table.
struct Option {
  std::string_view name;
  std::string_view argument;  ///< How -help writes it; empty: the option has none.
  std::string_view help;
  Result<> (Builder::*apply)(const std::string& argument);
};
[[nodiscard]] std::span<const Option> options();
/// What -help prints.
[[nodiscard]] std::string help_text(std::string_view program);

}  // namespace limen::qemu
