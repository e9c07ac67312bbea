; Debug registers in protected mode: general detect, DR4 and DR5, instruction, data and I/O
; breakpoints, single step, and the MOV SS shadow.
%include "common.inc"
  to_protected
  set_gate32 1, debug, 0x8E
  set_gate32 6, invalid, 0x8E
  mov eax, 0x12345678
  mov dr0, eax
  mov ebx, dr0
  result 0, ebx
  xor eax, eax
  mov dr7, eax
  mov eax, dr7
  result 1, eax
  mov eax, dr5                       ; DR7 under another name
  result 2, eax
  ; with CR4.DE, DR4 and DR5 are gone
  mov eax, cr4
  or al, 8
  mov cr4, eax
  mov eax, dr4
  mov eax, after_step
  result 10, eax
  mov eax, breakpoint
  result 11, eax
  mov eax, after_write
  result 12, eax
  mov eax, after_in
  result 13, eax
  mov eax, detected
  result 14, eax
  mov eax, after_shadow
  result 15, eax
  ; single step over a NOP
  pushfd
  or dword [esp], 0x100
  popfd
stepped:
  nop
after_step:
  ; an instruction breakpoint
  mov eax, breakpoint
  mov dr0, eax
  mov eax, 0x2
  mov dr7, eax
breakpoint:
  nop
  ; a data breakpoint on a write of four bytes
  mov eax, watched
  mov dr1, eax
  mov eax, 0x00D00008                ; G1, write, 4 bytes
  mov dr7, eax
  mov byte [watched + 3], 1
after_write:
  mov al, [watched]                  ; reads do not hit
  ; an I/O breakpoint on port 60H
  mov eax, 0x60
  mov dr2, eax
  mov eax, 0x02000020
  mov dr7, eax
  in al, 0x60
after_in:
  ; general detect
  mov eax, 0x2000
  mov dr7, eax
detected:
  mov eax, dr0
  ; MOV SS holds the trap back by one instruction
  mov eax, 0x00F00008                ; G1, read or write, 4 bytes
  mov dr7, eax
  mov word [watched], DATA
  mov dword [trace_next], RESULTS + 8 * 28
  mov ss, [watched]
  nop
after_shadow:
  ; with INT1 behind it, both are one exception
  mov ss, [watched]
  db 0xF1
after_int1:
  mov eax, after_int1
  result 16, eax
  mov eax, behind_shadow
  result 17, eax
  ; an instruction breakpoint behind it hits on AMD's processors only
  mov dr0, eax
  mov eax, 0x2
  mov dr7, eax
  mov ss, [watched]
behind_shadow:
  nop
  finish
debug:
  push eax
  push ebx
  push ecx
  mov ecx, [trace_next]
  mov eax, dr6
  mov [ecx], ax
  mov ebx, [esp + 12]
  mov [ecx + 4], ebx
  add dword [trace_next], 8
  ; clear DR6, end single steps, skip instruction breakpoints
  xor ebx, ebx
  mov dr6, ebx
  and dword [esp + 20], ~0x100
  or dword [esp + 20], 0x10000
  pop ecx
  pop ebx
  pop eax
  iretd
invalid:
  inc dword [RESULTS + 24]
  add dword [esp], 3
  iretd
align 4
watched: dd 0
trace_next: dd RESULTS + 8 * 20
  data_tables
