//! The global allocator: large blocks straight from the kernel, small ones from the C library.
//!
//! The rings of a TCP flow are 8 KiB to 2 MiB and mostly untouched. They must cost only the pages
//! that were written, and go back to the kernel when the flow ends, on glibc (whose threshold for
//! mmap grows with use) as on musl (whose calloc may write the zeros). Blocks of
//! [`LARGE`] bytes and more are therefore mappings of their own; mmap(2), mremap(2).
//! And what else gives memory back: [`trim`], [`unmap_program`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{ptr, slice};

/// Maps blocks of 32 KiB and more directly, and leaves the rest to [`System`].
#[derive(Debug, Clone, Copy, Default)]
pub struct PageAllocator;

// SAFETY: a block is mapped or comes from `System` by its layout alone, which the caller repeats
// when it frees or resizes the block, so each block goes back to where it came from. Mappings are
// page-aligned, hence aligned to `MIN_PAGE`, and at least as long as the layout asks.
unsafe impl GlobalAlloc for PageAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_mapped(layout) {
            take_spare(layout.size()).unwrap_or_else(|| map(layout.size()))
        } else {
            // SAFETY: the caller's promises about `layout` are those that `System` asks for.
            unsafe { System.alloc(layout) }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_mapped(layout) {
            if let Some(spare) = take_spare(layout.size()) {
                // SAFETY: a spare block is a mapping of this size that nobody else has.
                unsafe { clear(spare, layout.size()) };
                return spare;
            }
            // An anonymous mapping reads as zeros without being touched.
            map(layout.size())
        } else {
            // SAFETY: as in `alloc`.
            unsafe { System.alloc_zeroed(layout) }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_mapped(layout) {
            if layout.size() == LARGE && keep_spare(block) {
                return;
            }
            // SAFETY: `block` is the start of a mapping of `layout.size()` bytes made by `map` or
            // mremap, and the caller gives it up. It can only fail when the kernel cannot split
            // a mapping; the block is then leaked, which is sound.
            unsafe { libc::munmap(block.cast(), layout.size()) };
        } else {
            // SAFETY: such a block came from `System` with this layout.
            unsafe { System.dealloc(block, layout) }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `new_size`, rounded up to the alignment, fits `isize`.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (is_mapped(layout), is_mapped(new_layout)) {
            // SAFETY: such a block came from `System` with this layout.
            (false, false) => unsafe { System.realloc(block, layout, new_size) },
            (true, true) => {
                // SAFETY: `block` is the start of a mapping of `layout.size()` bytes of ours.
                let moved = unsafe {
                    let [old, new] = [layout.size(), new_size].map(whole_pages);
                    libc::mremap(block.cast(), old, new, libc::MREMAP_MAYMOVE)
                };
                if moved == libc::MAP_FAILED { ptr::null_mut() } else { moved.cast() }
            }
            (true, false) | (false, true) => {
                // SAFETY: both layouts are valid and not empty; the blocks do not overlap; the
                // smaller length is inside both; the old block is given up only after success.
                unsafe {
                    let moved = self.alloc(new_layout);
                    if !moved.is_null() {
                        ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size));
                        self.dealloc(block, layout);
                    }
                    moved
                }
            }
        }
    }
}

/// Whether a block of this layout is a mapping of its own.
const fn is_mapped(layout: Layout) -> bool {
    (layout.size() >= LARGE || layout.size() == RING) && layout.align() <= MIN_PAGE
}

/// What the kernel maps for `size` bytes, or less: it knows no parts of pages, but Miri does.
fn whole_pages(size: usize) -> usize {
    size.next_multiple_of(MIN_PAGE)
}

/// Maps `size` bytes; null when the kernel refuses, which is what `GlobalAlloc` reports with.
fn map(size: usize) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory that
    // is in use.
    let block = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
    if block == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    // Neighbouring mappings merge, and where huge pages are "always" on, the first byte of a ring
    // would then cost 2 MiB. A kernel without huge pages says EINVAL, which is as good.
    // Miri does not know it.
    #[cfg(not(miri))]
    // SAFETY: the range was mapped just above; the advice changes no contents.
    unsafe {
        libc::madvise(block, size, libc::MADV_NOHUGEPAGE)
    };
    block.cast()
}

/// Makes a mapping read as zeros and cost a page at the most. A connection of a request and a response
/// has touched the first page alone, and to write that is a tenth of what madvise(2) and the next
/// page fault take. Zeros in all that was ever touched would cost every page of it, of each of
/// thousands of connections that follow others.
///
/// # Safety
///
/// `block` is the start of a mapping of ours of `size` bytes that nobody else has.
unsafe fn clear(block: *mut u8, size: usize) {
    // SAFETY: the caller's promise; a mapping has no byte that was never given a value.
    let bytes = unsafe { slice::from_raw_parts_mut(block, size) };
    let (first, others) = bytes.split_at_mut(MIN_PAGE.min(size));
    if is_zero(others) {
        // A page that is only read is the kernel's one of zeros, and nobody's memory.
        if !is_zero(first) {
            first.fill(0);
        }
        return;
    }
    // Miri does not know it.
    #[cfg(not(miri))]
    // SAFETY: the pages are the caller's, and come back as zeros; madvise(2), `MADV_DONTNEED`.
    if unsafe { libc::madvise(block.cast(), size, libc::MADV_DONTNEED) } == 0 {
        return;
    }
    bytes.fill(0);
}

fn is_zero(bytes: &[u8]) -> bool {
    // Without memcmp(3), which takes a byte at a time in musl, and 64 of them at once.
    let (words, rest) = bytes.as_chunks::<16>();
    let (lines, words) = words.as_chunks::<4>();
    let word = |bytes: &[u8; 16]| u128::from_ne_bytes(*bytes);
    lines.iter().all(|[a, b, c, d]| word(a) | word(b) | word(c) | word(d) == 0)
        && words.iter().all(|bytes| word(bytes) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

/// Blocks of [`LARGE`] bytes that were given up, the rings of connections that come and go: a fresh
/// one is three system calls until it is gone again, one of these is none. 512 KiB at the most, until
/// [`trim`].
static SPARES: [AtomicPtr<u8>; 16] = [const { AtomicPtr::new(ptr::null_mut()) }; 16];

fn take_spare(size: usize) -> Option<*mut u8> {
    if size != LARGE {
        return None;
    }
    // Whoever gets a block out of its place owns it.
    let mut spares = SPARES.iter().map(|place| place.swap(ptr::null_mut(), Ordering::Acquire));
    spares.find(|block| !block.is_null())
}

/// Keeps a block if there is a place for it.
fn keep_spare(block: *mut u8) -> bool {
    SPARES.iter().any(|place| {
        let empty = ptr::null_mut();
        place.compare_exchange(empty, block, Ordering::Release, Ordering::Relaxed).is_ok()
    })
}

/// Gives blocks that were freed and kept back to the kernel: ours, and those of the C library, by
/// malloc_trim(3), which glibc alone has.
pub fn trim() {
    while let Some(block) = take_spare(LARGE) {
        // SAFETY: a spare block is a mapping of this size that nobody else has.
        unsafe { libc::munmap(block.cast(), LARGE) };
    }
    // Miri does not know it.
    #[cfg(all(target_env = "gnu", not(miri)))]
    // SAFETY: it touches no block that is in use, and may be called at any time.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Lets go of the pages of the program's own code and constants. They are the file's, and come back
/// from the page cache as they are used again: what only the start needed does not (madvise(2),
/// `MADV_DONTNEED`; a breakpoint that a debugger has set by then is lost).
pub fn unmap_program() {
    // SAFETY: `visit` has the type that is asked for, and is called during this call only.
    unsafe { libc::dl_iterate_phdr(Some(visit), ptr::null_mut()) };
}

/// Called with the program itself first, at which it ends the walk (dl_iterate_phdr(3)).
unsafe extern "C" fn visit(
    object: *mut libc::dl_phdr_info,
    _: usize,
    _: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the C library passes an object that is loaded, with as many headers as it says.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr, slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    // Written pages, relocations among them, are in segments that are writable.
    for header in
        headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0)
    {
        let start = base + header.p_vaddr;
        if let (Ok(start), Ok(len)) = (usize::try_from(start), usize::try_from(header.p_memsz)) {
            let before = start % PAGE_OF_SEGMENTS;
            let block = ptr::with_exposed_provenance_mut(start - before);
            // SAFETY: a private mapping of a file that nobody writes to: read again, its pages
            // are what they were. Where pages are larger, EINVAL leaves them mapped.
            unsafe { libc::madvise(block, before + len, libc::MADV_DONTNEED) };
        }
    }
    1
}

/// Segments of a program begin in a page of this size or a smaller one.
const PAGE_OF_SEGMENTS: usize = 4096;

/// The smallest block in bytes that gets a mapping: below it the two system calls and the rest of
/// the last page cost more than they save.
pub const LARGE: usize = 32 * 1024;

/// Blocks of exactly so many bytes are mapped too: the rings of a crowd of connections, which cost
/// what was touched of them as larger ones do. Nothing else has that length but by chance.
pub const RING: usize = 8 * 1024 - 16;

/// No Linux page is smaller; larger alignments are left to `System`.
const MIN_PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Where the bytes of a block are looked at: everywhere, or here and there where a machine is
    /// interpreted.
    fn places(len: usize) -> impl Iterator<Item = usize> {
        (0..len).step_by(if cfg!(miri) { 1021 } else { 1 })
    }

    fn resident_pages(block: *mut u8, len: usize) -> usize {
        let mut pages = vec![0_u8; len / MIN_PAGE + 1];
        // SAFETY: `block` is a live mapping of `len` bytes and `pages` has a byte for each page.
        let result = unsafe { libc::mincore(block.cast(), len, pages.as_mut_ptr().cast()) };
        assert_eq!(result, 0);
        pages.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    #[cfg_attr(miri, ignore = "asks mincore(2)")]
    fn large_blocks_are_zero_and_resident_only_where_written() {
        let layout = Layout::from_size_align(1 << 20, 8).unwrap();
        // SAFETY: the layout is not empty, the block is used inside its size and freed once.
        unsafe {
            let block = PageAllocator.alloc_zeroed(layout);
            assert!(!block.is_null());
            assert_eq!(resident_pages(block, layout.size()), 0);
            block.add(500_000).write(7);
            assert_eq!(resident_pages(block, layout.size()), 1);
            assert_eq!(block.add(500_000).read(), 7);
            assert_eq!(block.add(499_999).read(), 0);
            PageAllocator.dealloc(block, layout);
        }
    }

    #[test]
    fn a_block_that_was_used_before_is_zero_again() {
        let layout = Layout::from_size_align(LARGE, 1).unwrap();
        // SAFETY: the layout is not empty, the blocks are used inside its size and freed once.
        unsafe {
            for round in 0..if cfg!(miri) { 3 } else { SPARES.len() + 2 } {
                let blocks = [(); 20].map(|()| PageAllocator.alloc_zeroed(layout));
                for (count, block) in blocks.into_iter().enumerate() {
                    assert!(places(LARGE).all(|at| block.add(at).read() == 0));
                    block.write_bytes(7, [1, MIN_PAGE, MIN_PAGE + 1, LARGE][(round + count) % 4]);
                }
                for block in blocks {
                    PageAllocator.dealloc(block, layout);
                }
            }
        }
        trim();
    }

    #[test]
    #[cfg_attr(miri, ignore = "has no mappings")]
    fn a_block_that_is_cleared_costs_a_page_at_most() {
        for (touched, pages) in [
            (0..0, 0),
            (0..1, 1),
            (0..MIN_PAGE, 1),
            (MIN_PAGE..MIN_PAGE + 1, 0),
            (LARGE - 1..LARGE, 0),
            (0..LARGE, 0),
        ] {
            // SAFETY: the block is a fresh mapping, used inside its size and unmapped once.
            unsafe {
                let block = map(LARGE);
                // Mappings alike that are neighbours are one; no other test has one like this.
                assert_eq!(libc::madvise(block.cast(), LARGE, libc::MADV_DONTDUMP), 0);
                block.add(touched.start).write_bytes(7, touched.len());
                for _ in 0..2 {
                    clear(block, LARGE);
                    assert!(places(LARGE).all(|at| block.add(at).read() == 0), "{touched:?}");
                    assert_eq!(mapping(block.addr()).1, pages * MIN_PAGE / 1024, "{touched:?}");
                }
                libc::munmap(block.cast(), LARGE);
            }
        }
    }

    #[test]
    fn realloc_keeps_the_contents_across_every_boundary() {
        let sizes =
            [100, LARGE - 1, LARGE, 3 * LARGE + 1, 1 << 20, RING, LARGE, RING, LARGE - 1, RING, 10];
        let byte = |index: usize| u8::try_from(index % 251).unwrap();
        // SAFETY: each layout is the one the block was last given; all use stays inside its size.
        unsafe {
            let mut layout = Layout::from_size_align(sizes[0], 16).unwrap();
            let mut block = PageAllocator.alloc(layout);
            for index in places(layout.size()) {
                block.add(index).write(byte(index));
            }
            for size in &sizes[1..] {
                block = PageAllocator.realloc(block, layout, *size);
                assert!(!block.is_null());
                for index in places(layout.size().min(*size)) {
                    assert_eq!(block.add(index).read(), byte(index), "at {index} of {size}");
                }
                layout = Layout::from_size_align(*size, 16).unwrap();
                for index in places(layout.size()) {
                    block.add(index).write(byte(index));
                }
            }
            PageAllocator.dealloc(block, layout);
        }
    }

    /// The mapping that an address is in, and how many KiB of it are resident.
    fn mapping(address: usize) -> (std::ops::Range<usize>, usize) {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut found = None;
        for line in smaps.lines() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or_default();
            if let Some((start, end)) = first.split_once('-') {
                let parse = |hex| usize::from_str_radix(hex, 16).unwrap();
                found = Some(parse(start)..parse(end)).filter(|range| range.contains(&address));
            } else if let (Some(range), "Rss:") = (&found, first) {
                return (range.clone(), words.next().unwrap().parse().unwrap());
            }
        }
        panic!("it is nowhere");
    }

    /// Where the code of this program is mapped, and how many KiB of it are.
    fn own_code() -> (std::ops::Range<usize>, usize) {
        mapping((unmap_program as *const ()).addr())
    }

    #[test]
    #[cfg_attr(miri, ignore = "has no mappings")]
    fn the_program_is_let_go_and_comes_back() {
        let (range, _) = own_code();
        // A machine that is short of memory lets go of it by itself.
        let all = testing::until("most of it is there", || {
            for page in range.clone().step_by(MIN_PAGE) {
                // SAFETY: a page of this program's code, which can be read.
                unsafe {
                    std::hint::black_box(ptr::with_exposed_provenance::<u8>(page).read_volatile())
                };
            }
            let (_, all) = own_code();
            (all >= range.len() / 1024 * 9 / 10).then_some(all)
        });
        // Other tests run at the same time and call back what they use.
        testing::until("less than half of it is left", || {
            unmap_program();
            (own_code().1 < all / 2).then_some(())
        });
    }

    #[test]
    fn alignments_beyond_a_page_are_kept() {
        for align in [1, 16, 4096, 8192, 1 << 20] {
            let layout = Layout::from_size_align(100_000, align).unwrap();
            // SAFETY: the layout is not empty and the block is freed once with the same layout.
            unsafe {
                let block = PageAllocator.alloc(layout);
                assert_eq!(block.addr() % align, 0, "align {align}");
                PageAllocator.dealloc(block, layout);
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri ends the program instead")]
    fn an_impossible_size_is_null_and_not_a_crash() {
        let layout = Layout::from_size_align(isize::MAX.unsigned_abs() - 4096, 8).unwrap();
        // SAFETY: the layout is valid; the kernel refuses it, so there is nothing to free.
        assert!(unsafe { PageAllocator.alloc(layout) }.is_null());
    }
}
