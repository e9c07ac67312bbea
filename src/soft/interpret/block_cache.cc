#include "soft/interpret/block_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <new>
#include <string>

#include "soft/interpret/select.h"
#include "soft/trace.h"

namespace limen::soft::interpret {
namespace {

void instruction_too_long(Cpu&, const Operation&) {
  Cpu::raise(x86::Exception::general_protection());
}

/// Instructions of the system class that leave mode, interrupts and translations alone.
bool is_harmless_system(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDPID:
    case ZYDIS_MNEMONIC_SWAPGS:
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE:
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
    case ZYDIS_MNEMONIC_CLFLUSH:
    case ZYDIS_MNEMONIC_CLFLUSHOPT:
    case ZYDIS_MNEMONIC_CLWB:
      return true;
    default:
      return false;
  }
}

}  // namespace

void make_operation(Cpu& cpu, const decode::Instruction& instruction, Operation& operation) {
  fill_operation(instruction, operation);
  operation.handler = select_integer(instruction, operation);
  if (operation.handler == nullptr) {
    operation.handler = select_system(instruction, operation);
    if (operation.handler != nullptr && !is_harmless_system(instruction.mnemonic()))
      operation.flags |= Operation::kEndsBlock | Operation::kSystem;
  }
  if (operation.handler == nullptr) operation.handler = select_native(instruction, operation, cpu);
  if (operation.handler == nullptr) {
    operation.handler = invalid_opcode;
    operation.flags |= Operation::kEndsBlock;
  }
}

BlockCache::BlockCache(size_t capacity) : capacity_(capacity), jumps_(kJumps), buckets_(kBuckets) {
  void* arena = ::mmap(nullptr, capacity_, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arena == MAP_FAILED) throw std::bad_alloc();
  arena_ = static_cast<std::byte*>(arena);
}

BlockCache::~BlockCache() { ::munmap(arena_, capacity_); }

bool BlockCache::second_page_is_current(Cpu& cpu, const Block& block, uint64_t linear) {
  const FetchResult second = cpu.mmu.fetch(cpu.next_code_page(linear));
  return second.ram_page == block.second_page &&
         cpu.code_generation(second.ram_page) == block.second_generation;
}

void BlockCache::drop_all() {
  std::ranges::fill(buckets_, nullptr);
  std::ranges::fill(jumps_, Jump{});
  used_ = 0;
}

Block* BlockCache::allocate(uint64_t key) {
  constexpr size_t kLargest = sizeof(Block) + kMaxOperations * sizeof(Operation);
  if (used_ + kLargest > capacity_) drop_all();
  // What is stale under this key goes, so that chains hold only live blocks.
  Block** link = &buckets_[bucket_of(key)];
  while (*link != nullptr && (*link)->key != key) link = &(*link)->next;
  if (*link != nullptr) *link = (*link)->next;
  return new (arena_ + used_) Block{.key = key};
}

Block& BlockCache::build(Cpu& cpu, const FetchResult& page, uint64_t linear, uint64_t key) {
  const size_t offset = linear & 0xFFF;
  const size_t in_page = memory::kPageSize - offset;
  Block& block = *allocate(key);
  auto* operations = reinterpret_cast<Operation*>(&block + 1);

  // A copy, so that what is decoded is what mark_code() is told of.
  std::array<uint8_t, kMaxOperations * decode::kMaxInstructionLength> copied;
  std::span<const uint8_t> bytes;
  block.ram_page = page.ram_page;
  if (page.host_page != nullptr) {
    block.generation = cpu.mmu.watch_code(page.ram_page, static_cast<uint32_t>(offset));
    block.generation_now = &cpu.ram.code_generations()[page.ram_page];
    bytes = std::span(copied).first(std::min(in_page, copied.size()));
    std::copy_n(page.host_page + offset, bytes.size(), copied.begin());
  } else {
    // Code in a device's memory: read through the bus, one instruction at a time, never kept.
    const auto read =
        std::span(copied).first(std::min<size_t>(in_page, decode::kMaxInstructionLength));
    cpu.mmu.read_physical(page.page + offset, std::as_writable_bytes(read));
    bytes = read;
  }

  const bool traced = cpu.trace != nullptr && cpu.trace->options().in_asm;
  std::string text = traced ? "----------------\nIN: (interpreted)\n" : "";
  decode::Instruction instruction;
  while (block.count < kMaxOperations) {
    const auto rest = bytes.subspan(block.length);
    auto outcome = decode::decode(cpu.mode, rest, instruction);
    if (outcome == decode::Outcome::kNeedMoreBytes) {
      if (block.count > 0) break;
      const FetchResult second = cpu.mmu.fetch(cpu.next_code_page(linear));
      constexpr unsigned kWanted = decode::kMaxInstructionLength;
      const auto tail = std::span(copied).subspan(rest.size(), kWanted);
      if (second.host_page != nullptr) {
        block.second_generation = cpu.mmu.watch_code(second.ram_page, 0);
        std::copy_n(second.host_page, kWanted, tail.begin());
        cpu.mmu.mark_code(second.ram_page, 0, tail);
      } else {
        cpu.mmu.read_physical(second.page, std::as_writable_bytes(tail));
      }
      block.crosses_page = true;
      block.second_page = second.ram_page;
      outcome =
          decode::decode(cpu.mode, std::span(copied).first(rest.size() + kWanted), instruction);
    }
    auto& operation = *new (&operations[block.count++]) Operation;
    if (outcome != decode::Outcome::kOk) {
      operation.handler =
          outcome == decode::Outcome::kInvalid ? invalid_opcode : instruction_too_long;
      operation.length = 1;
      ++block.length;
      break;
    }
    make_operation(cpu, instruction, operation);
    if (traced) append_instruction(text, linear + block.length, instruction);
    block.length = static_cast<uint16_t>(block.length + operation.length);
    block.ends_in_system = (operation.flags & Operation::kSystem) != 0;
    if ((operation.flags & Operation::kEndsBlock) || block.crosses_page ||
        page.host_page == nullptr || block.length == in_page)
      break;
  }
  if (traced) cpu.trace->write(text + "\n");
  if (page.host_page == nullptr) return block;  // unlinked: the next find() decodes again
  cpu.mmu.mark_code(page.ram_page, static_cast<uint32_t>(offset),
                    bytes.first(std::min<size_t>(block.length, in_page)));
  used_ += sizeof(Block) + block.count * sizeof(Operation);
  Block*& head = buckets_[bucket_of(key)];
  block.next = head;
  head = &block;
  return block;
}

}  // namespace limen::soft::interpret
