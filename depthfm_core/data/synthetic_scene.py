"""Scene under construction: boxes, bars and smooth meshes in metres, z up, each with a material row.

Boxes are only noted down while a scene grows and turned into triangles all at once, because a furnished
room has several hundred of them and one NumPy call each would cost more than tracing the picture.
"""

import math
from dataclasses import dataclass, field

import numpy as np

_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)], np.float32)
_BOX_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
    + [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]],
    np.int32,
)

Point = tuple[float, float, float]
Mesh = tuple[np.ndarray, np.ndarray]  # vertices [V, 3], faces [F, 3]


@dataclass(frozen=True)
class Place:
    """A position on the floor and a heading; furniture is built in its coordinates, front towards +y."""

    x: float
    y: float
    z: float = 0.0
    yaw: float = 0.0

    def at(self, x: float, y: float, z: float = 0.0, turn: float = 0.0) -> "Place":
        """The place at these local coordinates, turned by `turn` radians about z."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return Place(self.x + c * x - s * y, self.y + s * x + c * y, self.z + z, self.yaw + turn)

    @property
    def point(self) -> Point:
        return self.x, self.y, self.z


@dataclass(frozen=True)
class Geometry:
    """Triangles of a finished scene and the object each belongs to, ready for the tracer.

    vertices [V, 3], faces [F, 3], owner [F] (object of a face), face_normal [F, 3] unit and outward,
    vertex_normal [V, 3] (not unit), and per object: rotation [K, 3, 3], center [K, 3], extent [K, 3],
    smooth [K] bool, material [K] (row of `materials` [M, MATERIAL_COLUMNS]).
    """

    vertices: np.ndarray
    faces: np.ndarray
    owner: np.ndarray
    face_normal: np.ndarray
    vertex_normal: np.ndarray
    rotation: np.ndarray
    center: np.ndarray
    extent: np.ndarray
    smooth: np.ndarray
    material: np.ndarray
    materials: np.ndarray


@dataclass
class Scene:
    """Collects parts; `finish` makes the arrays. Rotations are rows of nine numbers."""

    materials: list = field(default_factory=list)
    _boxes: list = field(default_factory=list)  # center, extent, rotation, material
    _meshes: list = field(default_factory=list)  # mesh, center, extent, rotation, material

    def material(self, row: list) -> int:
        """Adds a material row; returns its number, to be shared by parts."""
        self.materials.append(row)
        return len(self.materials) - 1

    def box(self, place: Place, at: Point, extent: Point, material: int, turn: float = 0.0) -> None:
        """A box with its centre at local coordinates `at`."""
        spot = place.at(*at, turn)
        self._boxes.append((spot.point, extent, _about_z(spot.yaw), material))

    def bar(
        self, place: Place, start: Point, end: Point, thickness: float, material: int, *, round: bool = False
    ) -> None:
        """A square bar or a round rod between two local points."""
        a, b = place.at(*start).point, place.at(*end).point
        length = math.dist(a, b)
        axis = tuple((q - p) / length for p, q in zip(a, b, strict=True))
        middle = tuple((p + q) / 2 for p, q in zip(a, b, strict=True))
        part = (middle, (thickness, thickness, length), _along(axis, place.yaw), material)
        if round:
            self._meshes.append((ROD, *part))
        else:
            self._boxes.append(part)

    def slab(self, place: Place, at: Point, extent: Point, material: int, tilt: float) -> None:
        """A box tilted by `tilt` radians about its own x axis: its top moves towards -y."""
        spot = place.at(*at)
        rotation = np.reshape(_about_z(spot.yaw), (3, 3)) @ _about_x(tilt)
        self._boxes.append((spot.point, extent, rotation.ravel(), material))

    def mesh(self, place: Place, mesh: Mesh, at: Point, extent: Point, material: int, *, tilt: float = 0.0) -> None:
        """A smooth mesh scaled by `extent`, tilted by `tilt` radians about its own x axis."""
        spot = place.at(*at)
        rotation = np.reshape(_about_z(spot.yaw), (3, 3)) @ _about_x(tilt)
        self._meshes.append((mesh, spot.point, extent, rotation.ravel(), material))

    def finish(self) -> Geometry:
        """All parts as triangle arrays; boxes come first."""
        parts = self._boxes + [m[1:] for m in self._meshes]
        center = np.array([p[0] for p in parts], np.float32)
        extent = np.array([p[1] for p in parts], np.float32)
        rotation = np.array([p[2] for p in parts], np.float32).reshape(-1, 3, 3)
        bases = [_CORNERS] * len(self._boxes) + [m[0][0] for m in self._meshes]
        counts = np.array([len(b) for b in bases])
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        shapes = [_BOX_FACES] * len(self._boxes) + [m[0][1] for m in self._meshes]
        face_counts = np.array([len(f) for f in shapes])
        of_vertex = np.repeat(np.arange(len(parts)), counts)
        local = np.concatenate(bases).astype(np.float32) * extent[of_vertex]
        vertices = np.einsum("vij,vj->vi", rotation[of_vertex], local) + center[of_vertex]
        owner = np.repeat(np.arange(len(parts), dtype=np.int32), face_counts)
        faces = (np.concatenate(shapes) + first[owner][:, None]).astype(np.int32)
        face_normal, vertex_normal = _normals(vertices, faces)
        smooth = np.arange(len(parts)) >= len(self._boxes)
        material = np.array([p[3] for p in parts], np.int32)
        return Geometry(
            np.ascontiguousarray(vertices, np.float32),
            faces,
            owner,
            face_normal,
            vertex_normal,
            rotation,
            center,
            extent,
            smooth,
            material,
            np.array(self.materials, np.float32),
        )


def _normals(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit face normals and area-weighted vertex normals."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    face = np.cross(b - a, c - a)
    at_vertex = np.zeros_like(vertices)
    for corner in range(3):
        for axis in range(3):
            at_vertex[:, axis] += np.bincount(faces[:, corner], face[:, axis], len(vertices)).astype(np.float32)
    face /= np.linalg.norm(face, axis=1, keepdims=True) + 1e-12
    return face.astype(np.float32), at_vertex


def _about_z(yaw: float) -> tuple[float, ...]:
    c, s = math.cos(yaw), math.sin(yaw)
    return c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0


def _about_x(tilt: float) -> np.ndarray:
    c, s = math.cos(tilt), math.sin(tilt)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _along(axis: Point, yaw: float) -> tuple[float, ...]:
    """Rotation whose third column is the unit vector `axis`, otherwise close to the given heading."""
    side = (math.cos(yaw), math.sin(yaw), 0.0)
    if abs(side[0] * axis[0] + side[1] * axis[1]) > 0.9:
        side = (-side[1], side[0], 0.0)
    y = _cross(axis, side)
    size = math.hypot(*y)
    y = tuple(c / size for c in y)
    x = _cross(y, axis)
    return x[0], y[0], axis[0], x[1], y[1], axis[1], x[2], y[2], axis[2]


def _cross(a: Point, b: Point) -> Point:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def lathe(profile: list[tuple[float, float]], sides: int = 16) -> Mesh:
    """Solid of revolution about z through (radius, height) pairs, listed from the bottom up."""
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    rings = [np.stack([r * np.cos(angle), r * np.sin(angle), np.full(sides, h)], 1) for r, h in profile]
    return np.concatenate(rings).astype(np.float32), _grid_faces(len(profile), sides, wrap=True)


def rounded(power: float, rows: int = 10, sides: int = 18) -> Mesh:
    """Unit superellipsoid: power 1 is a ball, about 0.3 a cushion, towards 0 a box."""
    lift = np.linspace(-np.pi / 2, np.pi / 2, rows)
    profile = [(np.cos(p) ** power, np.sign(np.sin(p)) * abs(np.sin(p)) ** power) for p in lift]
    vertices, faces = lathe([(max(float(r), 1e-3), float(h)) for r, h in profile], sides)
    ring = np.linalg.norm(vertices[:, :2], axis=1, keepdims=True)
    unit = vertices[:, :2] / ring
    vertices[:, :2] = ring * np.sign(unit) * np.abs(unit) ** power
    return vertices / 2, faces


def heightfield(height: np.ndarray, width: float, depth: float) -> Mesh:
    """Grid of heights [rows, columns] over a centred rectangle, facing +z; rows run along y."""
    rows, columns = height.shape
    y, x = np.meshgrid(
        np.linspace(-depth / 2, depth / 2, rows), np.linspace(-width / 2, width / 2, columns), indexing="ij"
    )
    vertices = np.stack([x, y, height], -1).reshape(-1, 3).astype(np.float32)
    return vertices, _grid_faces(rows, columns, wrap=False)


def curtain(waves: int, depth: float) -> Mesh:
    """A hanging sheet of unit width and height in the x-z plane, folded `waves` times."""
    columns = 48
    x = np.linspace(-0.5, 0.5, columns)
    fold = depth * np.sin(2 * np.pi * waves * x) * (1 + 0.3 * np.sin(11 * x))
    rows = [np.stack([x, fold * (1.0 - 0.35 * (h + 0.5)), np.full(columns, h)], 1) for h in (-0.5, 0.0, 0.5)]
    return np.concatenate(rows).astype(np.float32), _grid_faces(3, columns, wrap=False)


def _grid_faces(rows: int, columns: int, *, wrap: bool) -> np.ndarray:
    j, i = np.meshgrid(np.arange(rows - 1), np.arange(columns if wrap else columns - 1), indexing="ij")
    p, q = (j * columns + i).ravel(), (j * columns + (i + 1) % columns).ravel()
    return np.concatenate([np.stack([p, q, q + columns], 1), np.stack([p, q + columns, p + columns], 1)]).astype(
        np.int32
    )


ROD = lathe([(0.01, -0.5), (0.5, -0.5), (0.5, -0.4999), (0.5, 0.4999), (0.5, 0.5), (0.01, 0.5)], 10)
DRUM = lathe([(0.001, -0.5), (0.49, -0.5), (0.5, -0.48), (0.5, 0.48), (0.49, 0.5), (0.001, 0.5)], 24)
BALL = rounded(1.0, 12, 20)
PEBBLE = rounded(1.0, 7, 10)  # for what is never more than a few pixels
CUSHION = rounded(0.35)
