#include "monitor/core_dump.h"

#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "monitor/guest_view.h"
#include "x86/registers.h"

namespace limen::monitor {
namespace {

/// A run of memory in the file.
struct Segment {
  uint64_t linear = 0;
  uint64_t physical = 0;
  uint64_t size = 0;
};

/// struct elf_prstatus of Linux for x86-64 (System V ABI; linux/elfcore.h).
struct ProcessorStatus {
  std::array<uint8_t, 32> signals{};
  int32_t process = 0;
  std::array<uint8_t, 76> identity_and_times{};
  std::array<uint64_t, 27> registers{};
  int32_t has_floating_point = 0;
  int32_t padding = 0;
};
static_assert(sizeof(ProcessorStatus) == 336);

/// The note by which QEMU's dumps tell crash of control and system registers.
struct QemuSegment {
  uint32_t selector = 0, limit = 0, flags = 0, padding = 0;
  uint64_t base = 0;
};
struct QemuProcessor {
  uint32_t version = 1, size = 440;
  std::array<uint64_t, 18> registers{};
  std::array<QemuSegment, 10> segments{};
  std::array<uint64_t, 5> control{};
  uint64_t kernel_gs_base = 0;
};
static_assert(sizeof(QemuProcessor) == 440);

ProcessorStatus status_of(const x86::CpuState& state, size_t index) {
  using namespace x86;
  const auto& gpr = state.gpr;
  const auto& segments = state.system.segments;
  ProcessorStatus status;
  status.process = static_cast<int32_t>(index + 1);
  status.registers = {gpr[15],
                      gpr[14],
                      gpr[13],
                      gpr[12],
                      gpr[kRbp],
                      gpr[kRbx],
                      gpr[11],
                      gpr[10],
                      gpr[9],
                      gpr[8],
                      gpr[kRax],
                      gpr[kRcx],
                      gpr[kRdx],
                      gpr[kRsi],
                      gpr[kRdi],
                      gpr[kRax],  // of the interrupted system call; there is none
                      state.rip,
                      segments[kCs].selector,
                      state.rflags,
                      gpr[kRsp],
                      segments[kSs].selector,
                      segments[kFs].base,
                      segments[kGs].base,
                      segments[kDs].selector,
                      segments[kEs].selector,
                      segments[kFs].selector,
                      segments[kGs].selector};
  return status;
}

QemuSegment qemu_segment(const x86::Segment& segment) {
  return {.selector = segment.selector,
          .limit = segment.limit,
          .flags = uint32_t{segment.attributes} << 8,
          .base = segment.base};
}

QemuProcessor qemu_processor(const x86::CpuState& state) {
  using namespace x86;
  const auto& gpr = state.gpr;
  const auto& system = state.system;
  QemuProcessor processor;
  processor.registers = {gpr[kRax], gpr[kRbx], gpr[kRcx], gpr[kRdx], gpr[kRsi], gpr[kRdi],
                         gpr[kRsp], gpr[kRbp], gpr[8],    gpr[9],    gpr[10],   gpr[11],
                         gpr[12],   gpr[13],   gpr[14],   gpr[15],   state.rip, state.rflags};
  const auto table = [](const DescriptorTableRegister& from) {
    return QemuSegment{.limit = from.limit, .base = from.base};
  };
  processor.segments = {qemu_segment(system.segments[kCs]),
                        qemu_segment(system.segments[kDs]),
                        qemu_segment(system.segments[kEs]),
                        qemu_segment(system.segments[kFs]),
                        qemu_segment(system.segments[kGs]),
                        qemu_segment(system.segments[kSs]),
                        qemu_segment(system.ldtr),
                        qemu_segment(system.tr),
                        table(system.gdtr),
                        table(system.idtr)};
  processor.control = {system.cr0, 0, system.cr2, system.cr3, system.cr4};
  processor.kernel_gs_base = system.kernel_gs_base;
  return processor;
}

template <typename T>
void append(std::vector<std::byte>& bytes, const T& value) {
  const auto raw = std::as_bytes(std::span(&value, 1));
  bytes.insert(bytes.end(), raw.begin(), raw.end());
}

template <typename T>
void append_note(std::vector<std::byte>& notes, const char* name, uint32_t type, const T& content) {
  const auto name_size = static_cast<uint32_t>(std::strlen(name) + 1);
  append(notes, Elf64_Nhdr{name_size, sizeof content, type});
  std::array<char, 8> padded{};
  std::memcpy(padded.data(), name, name_size);
  append(notes, padded);
  append(notes, content);
}

std::vector<Segment> segments_of(const DumpRequest& request) {
  std::vector<Segment> segments;
  if (request.paging && !request.processors.empty()) {
    const GuestView view(*request.memory, request.processors.front());
    view.for_each_mapping([&](const Mapping& mapping) {
      if (request.memory->span(GuestPhysicalAddress{mapping.physical}, mapping.size).empty())
        return;
      if (!segments.empty()) {
        Segment& last = segments.back();
        if (last.linear + last.size == mapping.linear &&
            last.physical + last.size == mapping.physical &&
            !request.memory->span(GuestPhysicalAddress{last.physical}, last.size + mapping.size)
                 .empty()) {
          last.size += mapping.size;
          return;
        }
      }
      segments.push_back({mapping.linear, mapping.physical, mapping.size});
    });
    if (!segments.empty()) return segments;
  }
  for (const auto& region : request.memory->regions())
    segments.push_back({0, region.start.value, region.size});
  return segments;
}

Result<> write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "dump: failed to save memory");
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return {};
}

}  // namespace

uint64_t core_memory_size(const DumpRequest& request) {
  uint64_t total = 0;
  for (const auto& segment : segments_of(request)) total += segment.size;
  return total;
}

Result<> write_core(int fd, const DumpRequest& request, std::atomic<uint64_t>& progress) {
  const auto segments = segments_of(request);
  std::vector<std::byte> notes;
  for (size_t i = 0; i < request.processors.size(); ++i)
    append_note(notes, "CORE", NT_PRSTATUS, status_of(request.processors[i], i));
  for (const auto& processor : request.processors)
    append_note(notes, "QEMU", 0, qemu_processor(processor));

  // More program headers than the header can count stand in a section header (gABI, "PN_XNUM").
  const size_t headers = segments.size() + 1;
  const bool many = headers >= PN_XNUM;
  Elf64_Ehdr elf{};
  std::memcpy(elf.e_ident, ELFMAG, SELFMAG);
  elf.e_ident[EI_CLASS] = ELFCLASS64;
  elf.e_ident[EI_DATA] = ELFDATA2LSB;
  elf.e_ident[EI_VERSION] = EV_CURRENT;
  elf.e_type = ET_CORE;
  elf.e_machine = EM_X86_64;
  elf.e_version = EV_CURRENT;
  elf.e_ehsize = sizeof elf;
  elf.e_phentsize = sizeof(Elf64_Phdr);
  elf.e_phnum = static_cast<uint16_t>(many ? PN_XNUM : headers);
  elf.e_shentsize = sizeof(Elf64_Shdr);
  elf.e_shnum = many ? 1 : 0;
  elf.e_shoff = many ? sizeof elf : 0;
  elf.e_phoff = sizeof elf + (many ? sizeof(Elf64_Shdr) : 0);

  std::vector<std::byte> head;
  append(head, elf);
  if (many) {
    Elf64_Shdr section{};
    section.sh_info = static_cast<uint32_t>(headers);
    append(head, section);
  }
  uint64_t offset = elf.e_phoff + headers * sizeof(Elf64_Phdr);
  Elf64_Phdr note{};
  note.p_type = PT_NOTE;
  note.p_offset = offset;
  note.p_filesz = note.p_memsz = notes.size();
  append(head, note);
  offset += notes.size();
  for (const auto& segment : segments) {
    Elf64_Phdr load{};
    load.p_type = PT_LOAD;
    load.p_offset = offset;
    load.p_vaddr = segment.linear;
    load.p_paddr = segment.physical;
    load.p_filesz = load.p_memsz = segment.size;
    append(head, load);
    offset += segment.size;
  }
  LIMEN_TRY(write_all(fd, head));
  LIMEN_TRY(write_all(fd, notes));
  constexpr uint64_t kStep = uint64_t{1} << 20;
  for (const auto& segment : segments)
    for (uint64_t done = 0; done < segment.size; done += kStep) {
      const uint64_t count = std::min(kStep, segment.size - done);
      LIMEN_TRY(write_all(
          fd, request.memory->span(GuestPhysicalAddress{segment.physical + done}, count)));
      progress += count;
    }
  return {};
}

DumpJob::~DumpJob() {
  if (thread_.joinable()) thread_.join();
}

Result<> DumpJob::run(UniqueFd fd, const DumpRequest& request) {
  completed_ = 0;
  total_ = core_memory_size(request);
  status_ = Status::kActive;
  auto outcome = write_core(fd.get(), request, completed_);
  status_ = outcome ? Status::kCompleted : Status::kFailed;
  return outcome;
}

void DumpJob::start(UniqueFd fd, DumpRequest request, std::function<void(Result<>)> done) {
  if (thread_.joinable()) thread_.join();
  status_ = Status::kActive;
  thread_ = std::thread([this, fd = std::move(fd), request = std::move(request),
                         done = std::move(done)]() mutable { done(run(std::move(fd), request)); });
}

}  // namespace limen::monitor
