#include "machine/machine.h"

#include <fmt/format.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/host_tsc.h"
#include "base/log.h"
#include "boot/acpi/tables.h"
#include "boot/kernel_loader.h"
#include "boot/memory_map.h"
#include "machine/accelerators.h"
#include "machine/crash_report.h"
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

}  // namespace

Result<std::unique_ptr<Machine>> Machine::create(const MachineDescription& description) {
  return create(description, LIMEN_TRY(create_accelerator(description.accelerator,
                                                          description.accelerator_properties)));
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
  if (description_.vcpus != 1)
    return fail("{} processors: machines have one for now", description_.vcpus);
  cpuid_ = LIMEN_TRY(x86::cpu_model(description_.cpu, accelerator_->supported_cpuid()));
  const auto layout = LIMEN_TRY(boot::ram_layout(description_.memory_bytes));
  memory_ = LIMEN_TRY(memory::GuestMemory::create(layout));
  // Before anything is opened, made or locked: most mistakes show here.
  const x86::CpuState start = LIMEN_TRY(load_guest());

  loop_ = LIMEN_TRY(EventLoop::create());
  signals_ = LIMEN_TRY(SignalWatch::create(*loop_, [this](int signal) {
    log::info("ending on signal {} ({})", signal, ::strsignal(signal));
    raise(Event::kQuit);
  }));
  BoardCallbacks callbacks;
  callbacks.power_off = [this] { raise(Event::kPowerOff); };
  callbacks.reset = [this] { raise(Event::kReset); };
  callbacks.exit = [this](int status) { raise(Event::kExit, status); };
  callbacks.quit = [this] { quit(); };
  callbacks.interrupt = [this] {
    if (auto* vcpu = interruptible_.load(std::memory_order_acquire)) vcpu->interrupt();
  };
  board_ = std::make_unique<Q35Board>(*memory_, *loop_, std::move(callbacks), host_tsc_hz(),
                                      physical_address_bits(cpuid_));
  LIMEN_TRY(board_->populate(description_));
  LIMEN_TRY(board_->reset());

  vm_ = LIMEN_TRY(accelerator_->create_vm({*memory_, board_->ports(), board_->mmio()}));
  auto vcpu = LIMEN_TRY(vm_->create_vcpu(0, cpuid_, board_->local_apic()));
  vcpu->set_state(start);
  auto* processor = vcpu.get();
  vcpu_ = std::make_unique<VcpuThread>(0, std::move(vcpu), board_->local_apic(),
                                       [this](const vcpu::Exit& exit) {
                                         if (exit.reason == vcpu::ExitReason::kShutdown)
                                           raise(Event::kTripleFault);
                                         else
                                           raise(Event::kInternalError, 0, exit.detail);
                                       });
  interruptible_.store(processor, std::memory_order_release);
  return {};
}

Machine::~Machine() {
  // The devices' own threads may still call the processor until the board is gone, and the
  // processor the devices until its thread is.
  if (vcpu_) vcpu_->stop();
  board_.reset();
}

Result<x86::CpuState> Machine::load_guest() {
  const auto serials = static_cast<unsigned>(description_.serials.size());
  const auto tables = LIMEN_TRY(boot::acpi::install_tables(
      *memory_, {.vcpus = description_.vcpus,
                 .hpet = description_.hpet,
                 .serial_ports = std::min(serials, kDescribedSerialPorts),
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
  vcpu_->vcpu().set_state(start);
  return {};
}

Result<int> Machine::run() {
  vcpu_->resume();
  loop_->run();
  vcpu_->pause();
  if (const auto stats = description_.accelerator_properties.find("stats");
      stats != description_.accelerator_properties.end() && stats->second == "on")
    std::fputs(vcpu_->vcpu().statistics().c_str(), stderr);
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

void Machine::raise(Event event, int status, std::string detail) {
  if (event == Event::kQuit) return quit();
  if (event_raised_.exchange(true)) return;
  // The guest executes nothing more than what is under way.
  vcpu_->request_pause();
  loop_->post([this, event, status, detail = std::move(detail)] { handle(event, status, detail); });
}

void Machine::handle(Event event, int status, const std::string& detail) {
  vcpu_->pause();
  switch (event) {
    case Event::kPowerOff:
      if (description_.no_shutdown) {
        log::info("the guest powered off; the machine stands still");
        return;
      }
      return end(0);
    case Event::kExit:
      return end(status);
    case Event::kQuit:
      return end(0);
    case Event::kInternalError:
      std::fputs(report(fmt::format("limen: the engine cannot go on: {}", detail)).c_str(), stderr);
      return end(fail("internal error: {}", detail));
    case Event::kTripleFault:
      if (description_.no_reboot) {
        std::fputs(report("limen: the guest triple-faulted").c_str(), stderr);
        return end(fail("the guest triple-faulted at rip {:#x}", vcpu_->vcpu().state().rip));
      }
      log::info("the guest triple-faulted; resetting");
      break;
    case Event::kReset:
      if (description_.no_reboot) return end(0);
      break;
  }
  if (auto started = power_on(); !started) return end(std::unexpected(std::move(started).error()));
  event_raised_ = false;
  vcpu_->resume();
}

void Machine::end(Result<int> outcome) {
  if (!outcome_) outcome_ = std::move(outcome);
  loop_->stop();
}

std::string Machine::report(std::string_view what) {
  return crash_report(what, vcpu_->vcpu().state(), vcpu_->vcpu().recent_instructions());
}

}  // namespace limen::machine
