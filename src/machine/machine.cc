#include "machine/machine.h"

#include <fmt/format.h>
#include <x86intrin.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/host_tsc.h"
#include "base/log.h"
#include "boot/acpi/tables.h"
#include "boot/kernel_loader.h"
#include "boot/memory_map.h"
#include "machine/accelerators.h"
#include "machine/crash_report.h"
#include "machine/device_catalog.h"
#include "machine/host_limits.h"

namespace limen::machine {
namespace {

constexpr uint32_t kFeatureLeaf = 1, kAddressSizeLeaf = 0x8000'0008;
constexpr unsigned kDefaultAddressBits = 40;
constexpr unsigned kDescribedSerialPorts = 2;  // the DSDT knows COM1 and COM2

unsigned physical_address_bits(const x86::CpuidTable& cpuid) {
  const auto* sizes = cpuid.find(kAddressSizeLeaf, 0);
  return sizes != nullptr && (sizes->eax & 0xFF) != 0 ? sizes->eax & 0xFF : kDefaultAddressBits;
}

/// That of -device pvpanic; 0: there is none.
uint16_t panic_port(const MachineDescription& description) {
  for (const auto& device : description.devices)
    if (device.driver == "pvpanic")
      return static_cast<uint16_t>(
          DeviceProperties(device).number("ioport", device::IsaPvpanic::kDefaultPort));
  return 0;
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
  LIMEN_TRY(check_memory(description_.memory_bytes, host_memory()));
  if (description_.vcpus > accelerator_->most_vcpus())
    return fail("{} processors are too many; accelerator '{}' runs at most {}", description_.vcpus,
                accelerator_->name(), accelerator_->most_vcpus());
  const auto topology =
      description_.topology.value_or(x86::Topology{.cores = std::max(description_.vcpus, 1u)});
  if (topology.processors() != description_.vcpus)
    return fail("{} processors, and a topology of {}", description_.vcpus, topology.processors());
  for (unsigned i = 0; i < description_.vcpus; ++i) apic_ids_.push_back(apic_id(topology, i));
  cpuid_ = LIMEN_TRY(x86::cpu_model(description_.cpu, accelerator_->supported_cpuid()));
  const auto layout = LIMEN_TRY(boot::ram_layout(description_.memory_bytes));
  memory_ = LIMEN_TRY(memory::GuestMemory::create(layout));
  // Before anything is opened, made or locked: most mistakes show here.
  const x86::CpuState start = LIMEN_TRY(load_guest());

  loop_ = LIMEN_TRY(EventLoop::create());
  signals_ = LIMEN_TRY(SignalWatch::create(*loop_, [this](int signal) {
    log::info("ending on signal {} ({})", signal, ::strsignal(signal));
    raise({Event::kQuit});
  }));
  BoardCallbacks callbacks;
  callbacks.power_off = [this] { raise({Event::kPowerOff}); };
  callbacks.reset = [this] { raise({Event::kReset}); };
  callbacks.exit = [this](int status) { raise({Event::kExit, status}); };
  callbacks.quit = [this] { quit(); };
  callbacks.slot_powered_off = [this](const std::string& port) {
    loop_->post([this, port] {
      std::string id;
      with_processors_held([&] { id = board_->remove_device(port); });
      if (!id.empty() && removed_) removed_(id);
    });
  };
  callbacks.panicked = [this](device::PanicEvent event) {
    if (event == device::PanicEvent::kPanicked) return raise({Event::kPanicked});
    log::warning("the guest crashed, and its crash kernel takes over");
  };
  callbacks.interrupt = [this](unsigned index) {
    if (interruptible_.load(std::memory_order_acquire)) vcpus_[index]->vcpu().interrupt();
  };
  // An image that would grow past a limit of the host's is an error of the disk's, not the end.
  ::signal(SIGXFSZ, SIG_IGN);
  callbacks.disk_error = [this](const DiskError& failure) { disk_failed(failure); };
  board_ = std::make_unique<Q35Board>(*memory_, *loop_, std::move(callbacks), host_tsc_hz(), cpuid_,
                                      physical_address_bits(cpuid_), apic_ids_);
  LIMEN_TRY(board_->populate(description_));
  LIMEN_TRY(board_->reset());

  vm_ = LIMEN_TRY(accelerator_->create_vm({*memory_, board_->ports(), board_->mmio()}));
  for (unsigned i = 0; i < description_.vcpus; ++i) {
    auto& apic = board_->local_apic(i);
    auto vcpu = LIMEN_TRY(vm_->create_vcpu(i, cpuid_of_processor(cpuid_, topology, i), apic));
    vcpus_.push_back(
        std::make_unique<VcpuThread>(i, std::move(vcpu), apic, [this, i](const vcpu::Exit& exit) {
          if (exit.reason == vcpu::ExitReason::kDebug) return stopped_for_debugger(i, exit.debug);
          const bool shutdown = exit.reason == vcpu::ExitReason::kShutdown;
          raise({shutdown ? Event::kTripleFault : Event::kInternalError, 0, i, exit.detail});
        }));
  }
  start_processors(start);
  interruptible_.store(true, std::memory_order_release);
  return {};
}

void Machine::start_processors(const x86::CpuState& start) {
  vcpus_.front()->vcpu().set_state(start);
  // The others wait to be started (SDM Vol. 3A 8.4.3). Their time-stamp counters agree with the
  // first one's.
  const auto* features = cpuid_.find(kFeatureLeaf, 0);
  x86::CpuState waiting = x86::reset_state(features != nullptr ? features->eax : 0);
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
  for (auto& vcpu : vcpus_) vcpu->resume();
}

void Machine::change_state(RunState state) {
  if (std::exchange(run_state_, state) != state && debug_observer_ != nullptr)
    debug_observer_->run_state_changed(state);
}

void Machine::with_processors_held(const std::function<void()>& work) {
  pause();
  work();
  if (run_state_ == RunState::kRunning && !event_raised_)
    for (const unsigned index : resumed_) vcpus_[index]->resume();
}

Result<> Machine::plug(const DeviceDescription& description) {
  Result<> outcome;
  with_processors_held([&] { outcome = board_->plug(description); });
  return outcome;
}

Result<> Machine::request_unplug(const std::string& id) {
  Result<> outcome;
  with_processors_held([&] { outcome = board_->request_unplug(id); });
  return outcome;
}

void Machine::stop(RunState reason) {
  if (run_state_ != RunState::kRunning) return;
  pause();
  change_state(reason);
}

bool Machine::cont() {
  std::vector<unsigned> all(vcpus_.size());
  std::iota(all.begin(), all.end(), 0u);
  return cont_some(all);
}

bool Machine::cont_some(std::span<const unsigned> indices) {
  if (run_state_ == RunState::kShutdown || run_state_ == RunState::kInternalError) return false;
  resumptions_.fetch_add(1);
  board_->retry_disks();
  change_state(RunState::kRunning);
  resumed_.assign(indices.begin(), indices.end());
  // Something that happened to the machine holds them: handle() resumes them.
  if (event_raised_) return true;
  for (const unsigned index : indices) vcpus_[index]->resume();
  return true;
}

void Machine::stopped_for_debugger(unsigned vcpu, const vcpu::DebugStop& stop) {
  const uint64_t resumptions = resumptions_.load();
  for (auto& other : vcpus_) other->request_pause();
  loop_->post([this, vcpu, stop, resumptions] {
    const bool running = run_state_ == RunState::kRunning;
    // If it went on meanwhile it comes to a breakpoint once more. What was watched has happened.
    if ((!running || resumptions != resumptions_.load()) &&
        stop.cause != vcpu::DebugStop::Cause::kWatchpoint) {
      if (running && !event_raised_)
        for (const unsigned index : resumed_) vcpus_[index]->resume();
      return;
    }
    pause();
    if (running) change_state(RunState::kDebug);
    if (debug_observer_ != nullptr) debug_observer_->debug_stopped(vcpu, stop);
  });
}

Machine::~Machine() {
  // The devices' own threads may still call the processor until the board is gone, and the
  // processor the devices until its thread is.
  for (auto& vcpu : vcpus_) vcpu->request_pause();
  for (auto& vcpu : vcpus_) vcpu->stop();
  board_.reset();
}

Result<x86::CpuState> Machine::load_guest() {
  const auto serials = static_cast<unsigned>(description_.serials.size());
  const auto tables = LIMEN_TRY(boot::acpi::install_tables(
      *memory_, {.vcpus = description_.vcpus,
                 .apic_ids = apic_ids_,
                 .hpet = description_.hpet,
                 .serial_ports = std::min(serials, kDescribedSerialPorts),
                 .panic_port = panic_port(description_),
                 .keyboard_controller = true}));
  boot::LoadRequest request;
  request.kernel = description_.kernel;
  request.initrd = description_.initrd;
  request.command_line = description_.append;
  request.e820 = boot::e820_map(*memory_);
  request.rsdp = tables.rsdp;
  if (const auto* features = cpuid_.find(kFeatureLeaf, 0)) request.cpu_signature = features->eax;
  request.physical_address_bits = physical_address_bits(cpuid_);
  auto loaded = LIMEN_TRY(boot::load_kernel(*memory_, request));
  // The time-stamp counter counts from power-on (SDM Vol. 3B 18.17).
  loaded.cpu.system.tsc_offset = -__rdtsc();
  return loaded.cpu;
}

Result<> Machine::power_on() {
  const x86::CpuState start = LIMEN_TRY(load_guest());
  LIMEN_TRY(board_->reset());
  start_processors(start);
  return {};
}

Result<int> Machine::run() {
  if (!description_.start_stopped) cont();
  loop_->run();
  pause();
  if (const auto stats = description_.accelerator_properties.find("stats");
      stats != description_.accelerator_properties.end() && stats->second == "on")
    for (size_t i = 0; i < vcpus_.size(); ++i)
      std::fputs(fmt::format("vcpu {}:\n{}", i, vcpus_[i]->vcpu().statistics()).c_str(), stderr);
  Result<int> outcome = outcome_ ? std::move(*outcome_) : 0;
  if (auto flushed = board_->flush_disks(); !flushed) {
    if (!outcome) log::error("{}", outcome.error().message);
    outcome = std::unexpected(std::move(flushed).error());
  }
  return outcome;
}

void Machine::quit() {
  loop_->post([this] { end(0); });
}

void Machine::disk_failed(const DiskError& failure) {
  using block::ErrorAction;
  const bool stops = failure.error.action == ErrorAction::kStop;
  const auto text =
      fmt::format("disk '{}': {} error: {}; {}", failure.device.empty() ? "?" : failure.device,
                  failure.error.write ? "write" : "read", ::strerror(failure.error.error),
                  stops ? "the machine stands still until it is told to go on"
                        : block::error_action_name(failure.error.action));
  // A guest can make as many of the others as it likes.
  if (!stops) return log::info("{}", text);
  log::warning("{}", text);
  for (auto& vcpu : vcpus_) vcpu->request_pause();
  loop_->post([this] { stop(RunState::kIoError); });
}

void Machine::raise(Occurrence occurrence) {
  if (occurrence.event == Event::kQuit) return quit();
  if (event_raised_.exchange(true)) return;
  // The guest executes nothing more than what is under way.
  for (auto& vcpu : vcpus_) vcpu->request_pause();
  loop_->post([this, occurrence = std::move(occurrence)] { handle(occurrence); });
}

void Machine::handle(const Occurrence& occurrence) {
  pause();
  switch (occurrence.event) {
    case Event::kPowerOff:
      if (description_.no_shutdown) {
        log::info("the guest powered off; the machine stands still");
        change_state(RunState::kShutdown);
        return;
      }
      return end(0);
    case Event::kExit:
      return end(occurrence.status);
    case Event::kQuit:
      return end(0);
    case Event::kPanicked:
      log::warning("the guest panicked");
      if (!description_.no_shutdown) return end(0);
      change_state(RunState::kGuestPanicked);
      event_raised_ = false;  // it may go on, if a person wants
      return;
    case Event::kInternalError:
      std::fputs(report(fmt::format("limen: the engine cannot go on: {}", occurrence.detail),
                        occurrence.vcpu)
                     .c_str(),
                 stderr);
      return end(fail("internal error: {}", occurrence.detail));
    case Event::kTripleFault:
      if (description_.no_reboot) {
        std::fputs(report("limen: the guest triple-faulted", occurrence.vcpu).c_str(), stderr);
        return end(fail("the guest triple-faulted at rip {:#x}",
                        vcpus_[occurrence.vcpu]->vcpu().state().rip));
      }
      log::info("the guest triple-faulted; resetting");
      break;
    case Event::kReset:
      if (description_.no_reboot) return end(0);
      break;
  }
  if (auto started = power_on(); !started) return end(std::unexpected(std::move(started).error()));
  event_raised_ = false;
  if (run_state_ == RunState::kRunning) resume();
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
