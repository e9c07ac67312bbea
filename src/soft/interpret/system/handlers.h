// The handlers of the system class, by the file that holds them.
#pragma once

#include "soft/cpu.h"
#include "soft/interpret/operation.h"

namespace limen::soft::interpret {

// segment_handlers.cc. `reg` is the segment register.
void move_to_segment(Cpu& cpu, const Operation& operation);
void move_from_segment(Cpu& cpu, const Operation& operation);
void push_segment(Cpu& cpu, const Operation& operation);
void pop_segment(Cpu& cpu, const Operation& operation);
void load_far_pointer(Cpu& cpu, const Operation& operation);

// far_transfer.cc, interrupt_return.cc, software_interrupt.cc
void jump_far(Cpu& cpu, const Operation& operation);
void call_far(Cpu& cpu, const Operation& operation);
void return_far(Cpu& cpu, const Operation& operation);
void interrupt_return(Cpu& cpu, const Operation& operation);
void software_interrupt(Cpu& cpu, const Operation& operation);
void breakpoint_interrupt(Cpu& cpu, const Operation& operation);
void overflow_interrupt(Cpu& cpu, const Operation& operation);
void debug_interrupt(Cpu& cpu, const Operation& operation);
void check_bounds(Cpu& cpu, const Operation& operation);

// syscall.cc
void system_call(Cpu& cpu, const Operation& operation);
void system_return(Cpu& cpu, const Operation& operation);
void fast_system_call(Cpu& cpu, const Operation& operation);
void fast_system_return(Cpu& cpu, const Operation& operation);
void swap_gs(Cpu& cpu, const Operation& operation);
void read_fs_base(Cpu& cpu, const Operation& operation);
void read_gs_base(Cpu& cpu, const Operation& operation);
void write_fs_base(Cpu& cpu, const Operation& operation);
void write_gs_base(Cpu& cpu, const Operation& operation);

// flags.cc
void clear_interrupt_flag(Cpu& cpu, const Operation& operation);
void set_interrupt_flag(Cpu& cpu, const Operation& operation);
void clear_ac(Cpu& cpu, const Operation& operation);
void set_ac(Cpu& cpu, const Operation& operation);
void push_flags(Cpu& cpu, const Operation& operation);
void pop_flags(Cpu& cpu, const Operation& operation);

// control_registers.cc, debug.cc. `reg` is the control or debug register.
void move_to_control(Cpu& cpu, const Operation& operation);
void move_from_control(Cpu& cpu, const Operation& operation);
void move_to_debug(Cpu& cpu, const Operation& operation);
void move_from_debug(Cpu& cpu, const Operation& operation);
void load_machine_status(Cpu& cpu, const Operation& operation);
void store_machine_status(Cpu& cpu, const Operation& operation);
void clear_task_switched(Cpu& cpu, const Operation& operation);
void get_extended_control(Cpu& cpu, const Operation& operation);
void set_extended_control(Cpu& cpu, const Operation& operation);

// descriptor_tables.cc, descriptor_queries.cc
void load_gdtr(Cpu& cpu, const Operation& operation);
void load_idtr(Cpu& cpu, const Operation& operation);
void store_gdtr(Cpu& cpu, const Operation& operation);
void store_idtr(Cpu& cpu, const Operation& operation);
void load_ldtr(Cpu& cpu, const Operation& operation);
void load_task_register(Cpu& cpu, const Operation& operation);
void store_ldtr(Cpu& cpu, const Operation& operation);
void store_task_register(Cpu& cpu, const Operation& operation);
void load_access_rights(Cpu& cpu, const Operation& operation);
void load_segment_limit(Cpu& cpu, const Operation& operation);
void verify_read(Cpu& cpu, const Operation& operation);
void verify_write(Cpu& cpu, const Operation& operation);
void adjust_rpl(Cpu& cpu, const Operation& operation);

// cache_control.cc
void invalidate_page(Cpu& cpu, const Operation& operation);
void invalidate_pcid(Cpu& cpu, const Operation& operation);
void write_back_caches(Cpu& cpu, const Operation& operation);
void flush_cache_line(Cpu& cpu, const Operation& operation);
void demote_cache_line(Cpu& cpu, const Operation& operation);
void zero_cache_line(Cpu& cpu, const Operation& operation);

// machine_specific.cc
void read_model_specific(Cpu& cpu, const Operation& operation);
void write_model_specific(Cpu& cpu, const Operation& operation);
void identify_processor(Cpu& cpu, const Operation& operation);
void read_tsc(Cpu& cpu, const Operation& operation);
void read_tsc_and_aux(Cpu& cpu, const Operation& operation);
void read_processor_id(Cpu& cpu, const Operation& operation);
void read_performance_counter(Cpu& cpu, const Operation& operation);
void halt(Cpu& cpu, const Operation& operation);
void hypercall(Cpu& cpu, const Operation& operation);

// io_ports.cc. The port of IN and OUT is `base` + immediate.
void port_in(Cpu& cpu, const Operation& operation);
void port_out(Cpu& cpu, const Operation& operation);
void port_in_string(Cpu& cpu, const Operation& operation);
void port_out_string(Cpu& cpu, const Operation& operation);

}  // namespace limen::soft::interpret
