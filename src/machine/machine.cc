#include "machine/machine.h"

#include <fmt/format.h>
#include <x86intrin.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/host_tsc.h"
#include "base/log.h"
#include "boot/acpi/tables.h"
#include "boot/kernel_loader.h"
#include "boot/memory_map.h"
#include "boot/mp_table.h"
#include "machine/accelerators.h"
#include "machine/chipset.h"
#include "machine/crash_report.h"
#include "machine/device_catalog.h"
#include "machine/firmware.h"
#include "machine/host_limits.h"
#include "machine/microvm.h"

namespace limen::machine {
namespace {

constexpr uint32_t kFeatureLeaf = 1, kAddressSizeLeaf = 0x8000'0008;
constexpr unsigned kDefaultAddressBits = 40;

unsigned physical_address_bits(const x86::CpuidTable& cpuid) {
  const auto* sizes = cpuid.find(kAddressSizeLeaf, 0);
  return sizes != nullptr && (sizes->eax & 0xFF) != 0 ? sizes->eax & 0xFF : kDefaultAddressBits;
}

}  // namespace

Result<std::unique_ptr<Machine>> Machine::create(const MachineDescription& description) {
  return create(description, LIMEN_TRY(create_accelerator(description)));
}

Result<std::unique_ptr<Machine>> Machine::create(const MachineDescription& description,
                                                 std::unique_ptr<vcpu::Accelerator> accelerator) {
  std::unique_ptr<Machine> machine(new Machine(description));
  LIMEN_TRY(machine->build(std::move(accelerator)));
  return machine;
}

Result<> Machine::build(std::unique_ptr<vcpu::Accelerator> accelerator) {
  accelerator_ = std::move(accelerator);
  loop_ = LIMEN_TRY(EventLoop::create());
  events_ = std::make_unique<Events>(*loop_);
  LIMEN_TRY(open_objects());
  if (description_.type == "none") {
    LIMEN_TRY(open_characters());
    displays_ = LIMEN_TRY(Displays::create(description_, nullptr, *events_, *loop_));
    return {};
  }
  LIMEN_TRY(check_microvm(description_));
  LIMEN_TRY(check_memory(description_.memory_bytes, host_memory()));
  if (description_.vcpus > accelerator_->most_vcpus())
    return fail("{} processors are too many; accelerator '{}' runs at most {}", description_.vcpus,
                accelerator_->name(), accelerator_->most_vcpus());
  topology_ =
      description_.topology.value_or(x86::Topology{.cores = std::max(description_.vcpus, 1u)});
  if (topology_.processors() != description_.vcpus)
    return fail("{} processors, and a topology of {}", description_.vcpus, topology_.processors());
  for (unsigned i = 0; i < description_.vcpus; ++i) apic_ids_.push_back(apic_id(topology_, i));
  cpuid_ = LIMEN_TRY(x86::cpu_model(description_.cpu, accelerator_->supported_cpuid()));
  bios_ = LIMEN_TRY(read_bios(description_));
  memory_ = LIMEN_TRY(open_guest_memory());
  if (description_.preallocate_memory) LIMEN_TRY(memory_->preallocate());
  // Before anything is opened, made or locked: most mistakes show here.
  const x86::CpuState start = LIMEN_TRY(load_guest());

  LIMEN_TRY(open_characters());
  BoardCallbacks callbacks;
  callbacks.power_off = [this] { raise({What::kPowerOff}); };
  callbacks.suspend = [this] { raise({What::kSuspend}); };
  callbacks.hibernate = [this] { raise({What::kHibernate}); };
  callbacks.wake_up = [this] { loop_->post([this] { woken(); }); };
  callbacks.reset = [this] { raise({What::kReset}); };
  callbacks.exit = [this](int status) { raise({What::kExit, status}); };
  callbacks.slot_powered_off = [this](const std::string& port) {
    loop_->post([this, port] {
      std::string id;
      with_processors_held([&] { id = board_->remove_device(port); });
      removed(port, id);
    });
  };
  callbacks.panicked = [this](device::PanicEvent event) {
    if (event == device::PanicEvent::kPanicked) return raise({What::kPanicked});
    log::warning("the guest crashed, and its crash kernel takes over");
    events_->post("GUEST_CRASHLOADED", nlohmann::json{{"action", "run"}});
  };
  callbacks.watchdog_expired = [this] { watchdog_expired(); };
  callbacks.machine_runs = [this] { return run_state_ == RunState::kRunning; };
  callbacks.port_changed = [this](const std::string& id, bool open) {
    events_->post("VSERPORT_CHANGE", nlohmann::json{{"id", id}, {"open", open}});
  };
  callbacks.clock_set = [this](int64_t offset) {
    events_->post("RTC_CHANGE", nlohmann::json{{"offset", offset}, {"qom-path", "/machine/rtc"}});
  };
  callbacks.interrupt = [this](unsigned index) {
    if (interruptible_.load(std::memory_order_acquire)) vcpus_[index]->vcpu().interrupt();
  };
  // An image that would grow past a limit of the host's is an error of the disk's, not the end.
  ::signal(SIGXFSZ, SIG_IGN);
  callbacks.disk_error = [this](const DiskError& failure) { disk_failed(failure); };
  callbacks.tray_moved = [this](const std::string& drive, const std::string& device, bool open) {
    events_->post("DEVICE_TRAY_MOVED",
                  nlohmann::json{{"device", drive}, {"id", device}, {"tray-open", open}});
  };
  callbacks.device_removed = [this](const std::string& id) {
    loop_->post([this, id] { removed(id); });
  };
  board_ = std::make_unique<Board>(*memory_, *loop_, *characters_, std::move(callbacks),
                                   host_tsc_hz(), cpuid_, physical_address_bits(cpuid_), apic_ids_);
  vm_ = LIMEN_TRY(accelerator_->create_vm({*memory_, board_->ports(), board_->mmio()}));
  board_->mmio().set_doorbell_taker(vm_->doorbell_taker());
  if (vm_->others_may_write()) board_->share_memory();
  board_->mmio().set_late_write_taker(vm_->late_memory_writes());
  board_->ports().set_late_write_taker(vm_->late_port_writes());
  LIMEN_TRY(board_->populate(description_, bios_, vm_->interrupt_chips()));
  LIMEN_TRY(board_->reset());

  for (unsigned i = 0; i < description_.vcpus; ++i) {
    auto& interrupts = board_->interrupts();
    auto vcpu = LIMEN_TRY(
        vm_->create_vcpu(i, cpuid_of_processor(cpuid_, topology_, i), interrupts.local(i)));
    vcpus_.push_back(std::make_unique<VcpuThread>(
        i, std::move(vcpu), interrupts.local_apic(i), [this, i](const vcpu::Exit& exit) {
          if (exit.reason == vcpu::ExitReason::kDebug) return stopped_for_debugger(i, exit.debug);
          const bool shutdown = exit.reason == vcpu::ExitReason::kShutdown;
          raise({shutdown ? What::kTripleFault : What::kInternalError, 0, i, exit.detail});
        }));
  }
  displays_ = LIMEN_TRY(Displays::create(description_, board_.get(), *events_, *loop_));
  start_processors(start);
  characters_->keep_files();
  interruptible_.store(true, std::memory_order_release);
  return {};
}

Result<> Machine::open_characters() {
  characters_ = std::make_unique<Characters>(
      *loop_, device::Multiplexer::Callbacks{.quit = [this] { quit(Cause::kHostUi); },
                                             .save =
                                                 [this] {
                                                   if (board_ == nullptr) return;
                                                   if (auto saved = board_->flush_disks(); !saved)
                                                     log::error("{}", saved.error().message);
                                                 }});
  for (const auto& character : description_.characters)
    // The board connects to a TPM itself: two channels lead there.
    if (std::ranges::find(description_.tpms, character.id, &TpmDescription::character) ==
        description_.tpms.end())
      LIMEN_TRY(characters_->add(character, true));
  if (description_.type == "none") characters_->keep_files();
  // A server that waits for its client can be interrupted until here.
  signals_ = LIMEN_TRY(SignalWatch::create(*loop_, [this](int signal) {
    log::info("ending on signal {} ({})", signal, ::strsignal(signal));
    quit(Cause::kSignal);
  }));
  return {};
}

void Machine::start_processors(const x86::CpuState& start) {
  vcpus_.front()->vcpu().set_state(start);
  // The others wait to be started (SDM Vol. 3A 8.4.3). Their time-stamp counters agree with the
  // first one's.
  x86::CpuState waiting = x86::reset_state(cpu_signature());
  waiting.activity.wait_for_sipi = true;
  waiting.system.tsc_offset = start.system.tsc_offset;
  for (size_t i = 1; i < vcpus_.size(); ++i) vcpus_[i]->vcpu().set_state(waiting);
}

void Machine::pause() {
  // All are told before the first is waited for.
  for (auto& vcpu : vcpus_) vcpu->request_pause();
  for (auto& vcpu : vcpus_) vcpu->pause();
}

void Machine::resume() {
  for (const unsigned index : resumed_) vcpus_[index]->resume();
}

Machine::~Machine() {
  // Viewers come before what they look at.
  displays_.reset();
  // The devices' own threads may still call the processor until the board is gone, and the
  // processor the devices until its thread is.
  for (auto& vcpu : vcpus_) vcpu->request_pause();
  for (auto& vcpu : vcpus_) vcpu->stop();
  board_.reset();
}

uint32_t Machine::cpu_signature() const {
  const auto* features = cpuid_.find(kFeatureLeaf, 0);
  return features != nullptr ? features->eax : 0;
}

Result<x86::CpuState> Machine::load_guest() {
  if (boots_firmware(description_)) {
    auto state = x86::reset_state(cpu_signature());
    state.system.tsc_offset = -__rdtsc();
    return state;
  }
  boot::acpi::InstalledTables tables;
  if (description_.acpi)
    tables = LIMEN_TRY(boot::acpi::install_tables(*memory_, acpi_board(description_, apic_ids_)));
  if (has_mp_table(description_)) {
    auto board = mp_board(description_, apic_ids_);
    if (const auto* features = cpuid_.find(kFeatureLeaf, 0)) {
      board.cpu_signature = features->eax;
      board.cpu_features = features->edx;
    }
    LIMEN_TRY(boot::mp::install(*memory_, board));
  }
  LIMEN_TRY(boot::install_restart_code(*memory_));
  boot::LoadRequest request;
  request.kernel = description_.kernel;
  request.initrd = description_.initrd;
  request.command_line = kernel_command_line(description_);
  request.e820 = boot::e820_map(*memory_);
  request.rsdp = tables.rsdp;
  request.cpu_signature = cpu_signature();
  request.physical_address_bits = physical_address_bits(cpuid_);
  auto loaded = LIMEN_TRY(boot::load_kernel(*memory_, request));
  // The time-stamp counter counts from power-on (SDM Vol. 3B 18.17).
  loaded.cpu.system.tsc_offset = -__rdtsc();
  return loaded.cpu;
}

Result<> Machine::power_on() {
  // First the devices, which until then may write the memory that is loaded to.
  LIMEN_TRY(board_->reset());
  start_processors(LIMEN_TRY(load_guest()));
  return {};
}

Result<> Machine::resume_parts() {
  auto start =
      board_->firmware()
          ? x86::reset_state(cpu_signature())
          : LIMEN_TRY(boot::waking_state(*memory_, cpu_signature(), physical_address_bits(cpuid_)));
  // The time-stamp counter goes on counting.
  start.system.tsc_offset = vcpus_.front()->vcpu().state().system.tsc_offset;
  LIMEN_TRY(board_->resume());
  start_processors(start);
  return {};
}

Result<int> Machine::run() {
  if (!description_.start_paused && board_ != nullptr) LIMEN_TRY(cont());
  loop_->run();
  pause();
  if (const auto stats = description_.accelerator_properties.find("stats");
      stats != description_.accelerator_properties.end() && stats->second == "on")
    for (size_t i = 0; i < vcpus_.size(); ++i)
      std::fputs(fmt::format("vcpu {}:\n{}", i, vcpus_[i]->vcpu().statistics()).c_str(), stderr);
  Result<int> outcome = outcome_ ? std::move(*outcome_) : 0;
  if (board_ == nullptr) return outcome;
  if (auto flushed = board_->flush_disks(); !flushed) {
    if (!outcome) log::error("{}", outcome.error().message);
    outcome = std::unexpected(std::move(flushed).error());
  }
  return outcome;
}

void Machine::disk_failed(const DiskError& failure) {
  using block::ErrorAction;
  const bool stops = failure.error.action == ErrorAction::kStop;
  const char* const reason = ::strerror(failure.error.error);
  const auto text = fmt::format("disk '{}': {} error: {}; {}",
                                failure.device.empty() ? failure.node : failure.device,
                                failure.error.write ? "write" : "read", reason,
                                stops ? "the machine stands still until it is told to go on"
                                      : block::error_action_name(failure.error.action));
  events_->post("BLOCK_IO_ERROR",
                nlohmann::json{{"device", failure.device},
                               {"node-name", failure.node},
                               {"operation", failure.error.write ? "write" : "read"},
                               {"action", block::error_action_name(failure.error.action)},
                               {"nospace", failure.error.error == ENOSPC},
                               {"reason", reason}});
  // A guest can make as many of the others as it likes.
  if (!stops) return log::info("{}", text);
  log::warning("{}", text);
  stop(RunState::kIoError);
}

void Machine::end(Result<int> outcome) {
  if (!outcome_) {
    outcome_ = std::move(outcome);
    if (debug_observer_ != nullptr) debug_observer_->ending(outcome_->value_or(1));
  }
  loop_->stop();
}

std::string Machine::report(std::string_view what, unsigned vcpu) {
  auto& processor = vcpus_[vcpu]->vcpu();
  std::string text =
      crash_report(vcpus_.size() > 1 ? fmt::format("{} (vcpu {})", what, vcpu) : what,
                   processor.state(), processor.recent_instructions());
  for (size_t i = 0; i < vcpus_.size(); ++i)
    if (i != vcpu)
      text += fmt::format("vcpu {}\n{}", i, format_registers(vcpus_[i]->vcpu().state()));
  return text;
}

}  // namespace limen::machine
