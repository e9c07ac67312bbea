; Task switches: JMP and CALL to a TSS, IRET back, a task gate for #DF, a bad TSS.
%include "common.inc"
%define OTHER 0x9200
  to_protected
  mov ax, TASK32
  ltr ax
  ; SPARE: a TSS at OTHER
  mov dword [gdt_spare], (OTHER << 16) | 0x67
  mov dword [gdt_spare + 4], 0x00008900
  mov dword [OTHER + 0x20], other_task
  mov dword [OTHER + 0x24], 0x2
  mov dword [OTHER + 0x28], 0xA0A0   ; EAX
  mov dword [OTHER + 0x38], STACK3   ; ESP
  mov dword [OTHER + 0x48], DATA     ; ES
  mov dword [OTHER + 0x4C], CODE32
  mov dword [OTHER + 0x50], DATA
  mov dword [OTHER + 0x54], DATA
  mov dword [OTHER + 0x58], 0
  mov dword [OTHER + 0x5C], 0
  mov dword [OTHER + 0x60], 0
  mov ebx, 0xBEEF
  call SPARE:0
back:
  result 3, ebx                      ; this task's registers are back
  mov eax, cr0
  result 4, eax                      ; TS
  str ax
  movzx eax, ax
  result 5, eax
  mov eax, [gdt_spare + 4]
  result 6, eax                      ; available again
  clts
  ; a second time, by JMP: the other task goes on behind its IRET
  jmp SPARE:0
again:
  result 9, ebx
  ; a task gate for #DF: push into a stack segment that is not there
  mov dword [OTHER + 0x20], double_fault_task
  mov dword [OTHER + 0x38], STACK3
  mov dword [OTHER + 0x24], 0x2
  mov dword [gdt_spare + 4], 0x00008900
  mov word [IDT + 8 * 8 + 2], SPARE
  mov word [IDT + 8 * 8 + 4], 0x8500
  ; no gate for #UD, none for #NP: a double fault
undefined:
  ud2
other_task:
  result 0, eax
  pushfd
  pop ecx
  result 1, ecx                      ; NT
  mov eax, [OTHER]
  result 2, eax                      ; back link
  iretd
  ; resumed by JMP
  mov eax, [gdt + TASK32 + 4]
  result 7, eax                      ; the first task's busy bit is clear
  mov eax, [TSS32 + 0x20]
  sub eax, again
  result 8, eax
  jmp TASK32:0
double_fault_task:
  pop eax                            ; error code
  result 10, eax
  mov eax, [TSS32 + 0x20]
  sub eax, undefined
  result 11, eax
  mov eax, [TSS32 + 0x24]
  result 12, eax
  finish
  data_tables
