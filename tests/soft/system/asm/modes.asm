; Real mode -> 32-bit protected -> 64-bit -> compatibility -> 32-bit -> real, and unreal mode.
%include "common.inc"
  mov ax, 0x1234
  mov fs, ax
  to_protected
  mov eax, cs
  result 0, eax
  mov eax, [gdt + CODE32]      ; the processor set the accessed bit
  mov eax, [gdt + CODE32 + 4]
  result 1, eax
  to_long
  mov rax, cs
  result 2, rax
  mov rax, 0x123456789ABCDEF0
  result 3, rax
  mov ecx, 0xC0000080
  rdmsr
  result 4, rax
  ; compatibility mode and back
  push qword CODE32
  push qword compatibility
  retfq
bits 32
compatibility:
  mov eax, -1
  inc eax                      ; 40H is INC here and a REX prefix in 64-bit mode
  result 5, eax
  mov eax, cs
  result 6, eax
  ; leave long mode
  mov eax, cr0
  and eax, 0x7FFFFFFF
  mov cr0, eax
  mov ecx, 0xC0000080
  rdmsr
  result 7, eax
  ; 16-bit protected mode, then real mode with a 4 GiB limit in DS
  jmp CODE16:code16
bits 16
code16:
  mov ax, DATA16
  mov ss, ax
  mov es, ax
  mov eax, cr0
  and al, 0xFE
  mov cr0, eax
  jmp 0:real
real:
  xor ax, ax
  mov ss, ax
  mov sp, 0xF00
  mov ds, ax                   ; keeps its limit
  mov ebx, 0x200000
  mov dword [ebx], 0xCAFE
  mov eax, [ebx]
  mov [RESULTS + 64], eax
  ; ES has a 64 KiB limit: a #GP through the vector table
  lidt [real_idt_pointer]
  mov word [13 * 4], general_protection
  mov word [13 * 4 + 2], 0
  mov es, ax
faulting:
  mov byte [es:ebx], 1
  finish
general_protection:
  pop ax
  sub ax, faulting
  mov [RESULTS + 72], ax
  mov word [RESULTS + 74], 0x600D
  finish
  data_tables
